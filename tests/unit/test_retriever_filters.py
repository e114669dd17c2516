"""What a query may see: conditions on float64 bounds that are exact for integers, and alike in either engine."""

import random

import pytest
from qdrant_client.local.payload_filters import check_filter

from services.common.moment import OPEN_END, OPEN_START, parse_instant
from services.common.nodes.retriever import Target
from services.retriever.backends.qdrant.filter import rendered
from services.retriever.visibility import AnyOf, Within, of_document, of_query, pair
from tests.fakes.retriever import query

YEARS = [parse_instant(f"{year}-05-05T01:02:03.456789Z") for year in ("0001", "1150", "1684", "2026", "2256", "9998")]


def passes(held, conditions, number=float):
    """number: what an engine compares as, float64 or integers."""
    wanted = all(holds(held, one, number) for one in conditions.must)
    return wanted and not any(holds(held, one, number) for one in conditions.must_not)


def holds(held, one, number):
    value = held[one.key]
    if isinstance(one, AnyOf):
        return bool(set(one.values) & set(value if isinstance(value, list) else [value]))
    assert isinstance(one, Within)
    low, high = one.above, one.at_most
    return (high is None or number(value) <= number(high)) and (low is None or number(value) > number(low))


def payload(**changed):
    whole = {"valid_from": OPEN_START, "valid_to": OPEN_END, "recorded_from": OPEN_START, "recorded_to": OPEN_END}
    named = {"tenant": "acme", "collection": "notes", "target": "passages", "doc_id": "d", "metadata": []}
    return named | whole | changed


@pytest.mark.parametrize("year", YEARS)
def test_bounds_are_exact_to_the_microsecond_although_float64_is_not(year):
    rng = random.Random(year)
    for _ in range(300):
        when, edge_of = year + rng.randint(-100, 100), year + rng.randint(-100, 100)
        conditions = of_query(query(as_of=when, known_at=when))
        for axis in ("valid", "recorded"):
            begins, ends = payload(**{f"{axis}_from": edge_of}), payload(**{f"{axis}_to": edge_of})
            for number in (float, int):
                assert passes(begins, conditions, number) == (edge_of <= when)
                assert passes(ends, conditions, number) == (when < edge_of)


def test_where_float64_is_exact_nothing_is_excluded_by_name():
    now = parse_instant("2026-05-05T01:02:03.456789Z")
    assert of_query(query(as_of=now, known_at=now)).must_not == []


def test_metadata_wants_one_of_the_values_under_every_key():
    conditions = of_query(query(lang=["en", "de"], kind=["a"]))
    assert passes(payload(metadata=[pair("lang", "de"), pair("kind", "a")]), conditions)
    assert not passes(payload(metadata=[pair("lang", "de")]), conditions)
    assert not passes(payload(metadata=[pair("lang", "fr"), pair("kind", "a")]), conditions)


def test_a_pair_is_not_another_pair_with_its_quotes_moved():
    assert len({pair("a", "b"), pair('a", "b', ""), pair("", 'a", "b'), pair("ab", "")}) == 4


def test_tenant_collection_and_target_are_always_wanted():
    conditions = of_query(query(target=Target.QUESTIONS))
    assert passes(payload(target="questions"), conditions)
    for other in ({"tenant": "rival"}, {"collection": "other"}, {"target": "passages"}):
        assert not passes(payload(**{"target": "questions"} | other), conditions)


def test_a_documents_points_are_its_passages_whatever_their_extents():
    conditions = of_document("acme", "notes", "d")
    assert passes(payload(valid_to=OPEN_START, recorded_to=OPEN_START), conditions)
    for other in ({"doc_id": "e"}, {"target": "questions"}, {"tenant": "rival"}):
        assert not passes(payload(**other), conditions)


def test_the_servers_filter_passes_what_the_conditions_pass():
    asked = query(as_of=YEARS[1], known_at=YEARS[4], lang=["en", "de"])
    conditions, rng = of_query(asked), random.Random(1)
    for _ in range(300):
        held = payload(
            valid_from=YEARS[1] + rng.randint(-2, 2) * 8,
            recorded_to=YEARS[4] + rng.randint(-20, 20),
            metadata=[pair("lang", rng.choice(["en", "fr"]))],
            tenant=rng.choice(["acme", "acme", "rival"]),
        )
        assert check_filter(rendered(conditions), held, 0, {}) == passes(held, conditions)
