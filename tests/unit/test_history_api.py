"""When a collection changed, over HTTP."""

import pytest

from tests.fakes.gateway import COLLECTION, answering, client_of, gateway


@pytest.fixture
async def client(tmp_path):
    async with gateway(tmp_path, answering()) as app, client_of(app) as opened:
        yield opened


async def test_a_collections_changes_are_instants_on_two_axes(client):
    found = (await client.get(f"/v1/collections/{COLLECTION}/changes")).json()
    assert set(found) == {"valid", "recorded"}
    assert found["recorded"] and all(set(tick) == {"first", "at", "changes"} for tick in found["recorded"])
    assert found["recorded"][0]["at"].endswith("Z")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/collections/none/changes", 404, "collection-not-found"),
        ("/v1/collections/-/changes", 400, "invalid-request"),
        (f"/v1/collections/{COLLECTION}/changes?known_at=soon", 400, "invalid-moment"),
        (f"/v1/collections/{COLLECTION}/changes?known_at=9000-01-01", 400, "invalid-moment"),
    ],
)
async def test_what_cannot_be_shown_says_why(client, path, status, kind):
    response = await client.get(path)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:almanac:error:{kind}")
