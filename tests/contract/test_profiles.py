"""Profiles on both databases: whole each time, in the order of their record, read as they stood."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.advance import Readers
from services.catalog.engine import Database
from services.catalog.profiles import Profile, lagging_profiles, newest, profile_changes, profiled_tenants, set_profile
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.features import PROFILES, TENANTS, USERS
from services.common.nodes.scope import Stretch
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.profile import find_profile


@pytest.fixture
def database(catalog_url):
    opened = Database(catalog_url)
    yield opened
    opened.close()


@pytest.fixture
def nodes(database):
    return Nodes(database, None, None, PointInTimeFeatures(MemoryBackend(), wait_seconds=0.2), None)


def put(database, profile, user="", tenant="t"):
    with database.write() as tx:
        return set_profile(tx, tenant, user, profile)


async def advance(nodes, tenant="t"):
    to = await nodes.catalog.reading(lambda tx: newest(tx, tenant))
    await Readers(nodes.catalog, None, None, nodes.features).advance_profiles(tenant, to)


async def test_a_users_profile_goes_over_the_tenants_as_on_record_at_the_time(database, nodes):
    assert await find_profile(nodes, "t", "ann", OPEN_END) == Profile()
    first = put(database, Profile("team", "de", questions_per_day=100))
    second = put(database, Profile(locale="fr-CH", adapter="law"), user="ann")
    third = put(database, Profile("team"))
    put(database, Profile("other"), tenant="u")
    await advance(nodes)
    assert first < second < third
    assert await find_profile(nodes, "t", "ann", first - 1) == Profile()
    assert await find_profile(nodes, "t", "ann", first) == Profile("team", "de", questions_per_day=100)
    assert await find_profile(nodes, "t", "ann", second) == Profile("team", "fr-CH", "law", 100)
    assert await find_profile(nodes, "t", "ann", OPEN_END) == Profile("team", "fr-CH", "law")
    assert await find_profile(nodes, "t", "bob", OPEN_END) == Profile("team")
    assert await find_profile(nodes, "t", "", OPEN_END) == Profile("team")


async def test_who_is_behind_is_known_until_the_views_have_it(database, nodes):
    recorded = put(database, Profile("team"))
    with database.read() as tx:
        assert lagging_profiles(tx) == profiled_tenants(tx) == [("t", recorded)]
    await advance(nodes)
    with database.read() as tx:
        assert lagging_profiles(tx) == []
        assert profiled_tenants(tx) == [("t", recorded)]
    assert [await nodes.features.position(view, "t", PROFILES) for view in (TENANTS, USERS)] == [recorded] * 2
    await advance(nodes)


def test_record_times_of_profiles_set_at_once_all_differ_and_none_is_lost(database):
    with ThreadPoolExecutor(4) as pool:
        recorded = list(pool.map(lambda n: put(database, Profile(f"p{n}"), user=f"u{n}"), range(12)))
    assert len(set(recorded)) == 12
    with database.read() as tx:
        stretch = Stretch("t", PROFILES, OPEN_START, max(recorded))
        rows = [row for batch in profile_changes(tx, USERS, stretch) for row in batch]
        assert not list(profile_changes(tx, TENANTS, stretch))
    assert [row.created for row in rows] == sorted(recorded)
    assert all(row.event == row.created for row in rows)
