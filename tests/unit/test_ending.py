"""The end of a document's validity over HTTP and on the command line, its history, and `almanac migrate`."""

import re

import httpx
import pytest
from typer.testing import CliRunner

from services.admin.__main__ import app as almanac
from services.catalog.engine import Database
from services.catalog.migrations import schema
from services.catalog.reading import passages_at
from services.catalog.state import live_generation
from services.common.errors import Unavailable
from services.common.moment import OPEN_END, Moment, now, parse_instant
from services.orchestrator import advancing
from tests.fakes.gateway import COLLECTION, MemoryBroker, answering, client_of, document, gateway

HERE = {"collection": COLLECTION}
PATH = "/v1/documents/port/harbour"


@pytest.fixture
async def app(tmp_path):
    async with gateway(tmp_path, answering()) as started:
        yield started


def visible(app, as_of, known_at=OPEN_END - 1):
    row = document()
    passage = row.passage_id("local", COLLECTION, row.passages[0])
    with app.state.context.catalog.read() as tx:
        return bool(passages_at(tx, "local", COLLECTION, [passage], Moment(as_of, known_at)))


async def test_a_deleted_document_is_valid_until_now_and_the_readers_are_told(app):
    before = now()
    async with client_of(app) as client:
        ended = (await client.delete(PATH, params=HERE)).json()
    at = parse_instant(ended["valid_to"])
    assert ended["ended"] and ended["doc_id"] == "port/harbour" and "note" not in ended
    assert before < at <= parse_instant(ended["recorded_at"])
    assert visible(app, at - 1) and not visible(app, at) and visible(app, at, before)
    assert app.state.context.broker.advanced == [("local", COLLECTION)]


async def test_a_document_may_be_ended_at_a_date_and_once_more_does_nothing(app):
    async with client_of(app) as client:
        first = (await client.delete(PATH, params={**HERE, "valid_to": "2001-01-01"})).json()
        again = (await client.delete(PATH, params={**HERE, "valid_to": "2001-01-01"})).json()
    assert (first["ended"], first["valid_to"]) == (True, "2001-01-01T00:00:00Z")
    assert (again["ended"], again["valid_to"], again["recorded_at"]) == (False, None, first["recorded_at"])
    assert visible(app, parse_instant("2000-12-31")) and not visible(app, parse_instant("2001-01-01"))


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/v1/documents/nothing", HERE, 404),
        (PATH, {"collection": "nowhere"}, 404),
        (PATH, {**HERE, "valid_to": "soon"}, 422),
    ],
)
async def test_what_is_not_there_cannot_be_ended(app, path, query, status):
    async with client_of(app) as client:
        response = await client.delete(path, params=query)
        assert response.status_code in (status, 400 if status == 422 else status)
        names = [one["name"] for one in (await client.get("/v1/collections")).json()["collections"]]
    assert names == [COLLECTION] and visible(app, now())


async def test_a_broker_that_is_down_delays_only_the_index(tmp_path):
    async with gateway(tmp_path, answering(), MemoryBroker(down=True)) as app, client_of(app) as client:
        ended = (await client.delete(PATH, params=HERE)).json()
        assert ended["ended"] and "sweeper" in ended["note"] and not visible(app, now())


class Readers:
    def __init__(self, error=None):
        self.asked, self.error = [], error

    async def bring_live(self, generation, tenant, collection, to):
        self.asked.append((generation, tenant, collection, to))
        if self.error:
            raise self.error


async def test_the_worker_advances_the_readers_to_the_newest_record(app):
    catalog, readers = app.state.context.catalog, Readers()
    async with client_of(app) as client:
        ended = (await client.delete(PATH, params=HERE)).json()
    await advancing.work(catalog, readers, "local", COLLECTION)
    with catalog.read() as tx:
        assert readers.asked == [(live_generation(tx), "local", COLLECTION, parse_instant(ended["recorded_at"]))]


async def test_a_reader_that_does_not_answer_is_left_to_the_sweeper(app):
    readers = Readers(Unavailable("gone"))
    await advancing.work(app.state.context.catalog, readers, "local", COLLECTION)
    assert len(readers.asked) == 1
    await advancing.work(app.state.context.catalog, readers, "local", "nowhere")


def version(start, end, known, until, title="Harbour", dated=True, version_id="3f2a91c0-aaaa"):
    spans = {"valid_from": start, "valid_to": end, "recorded_from": known, "recorded_to": until}
    return {"version_id": version_id, "title": title, "uri": "", **spans, "dated": dated}


FIRST, SECOND, THIRD = "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000001Z", "2024-02-01T00:00:00Z"
VERSIONS = [
    version(None, None, FIRST, SECOND, dated=False),
    version(None, "2010-01-01T00:00:00Z", SECOND, THIRD, dated=False),
    version("2010-01-01T00:00:00Z", None, SECOND, THIRD, title="Har\x1b[31mbour", version_id="77ab0000-bbbb"),
]


def run(answer, *arguments):
    seen = []

    def handle(request):
        seen.append(request)
        return httpx.Response(200, json=answer)

    return CliRunner().invoke(almanac, arguments, obj=httpx.MockTransport(handle)), seen


def test_a_history_is_shown_as_it_was_known_at_each_record_time():
    done, [request] = run({"versions": VERSIONS}, "history", "port/harbour", "-c", "notes")
    assert request.url.path == "/v1/documents/port/harbour/versions" and request.url.params["collection"] == "notes"
    assert done.output.splitlines() == [
        "port/harbour: 2 versions",
        "recorded 2024-01-01",
        "  + always valid                 3f2a91c0  Harbour  (undated)",
        "recorded 2024-01-01T00:00:00.000001Z",
        "  + … – 2010-01-01               3f2a91c0  Harbour  (undated)",
        "  + 2010-01-01 – …               77ab0000  Har[31mbour",
        "recorded 2024-02-01",
        "    nothing",
    ]


def test_delete_says_until_when_the_document_is_valid():
    answer = {"ended": True, "valid_to": "2020-01-01T00:00:00Z", "recorded_at": "2026-01-02T03:04:05Z"}
    done, [request] = run(answer, "delete", "a b#c", "--valid-to", "2020-01-01")
    assert (request.method, request.url.raw_path.partition(b"?")[0]) == ("DELETE", b"/v1/documents/a%20b%23c")
    assert request.url.params["valid_to"] == "2020-01-01"
    assert done.output == "a b#c is valid until 2020-01-01; recorded at 2026-01-02T03:04:05Z\n"


def test_a_dry_run_of_migrate_prints_the_sql_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_CATALOG_URL", url := f"sqlite:///{tmp_path / 'new' / 'catalog.db'}")
    done = CliRunner().invoke(almanac, ["migrate", "--dry-run"])
    assert "CREATE TABLE collections" in done.output and not (tmp_path / "new").exists()
    assert re.search(r"schema \d{4}", CliRunner().invoke(almanac, ["migrate"]).output)
    Database(url).close()
    assert CliRunner().invoke(almanac, ["migrate", "--dry-run"]).output == "-- nothing to do\n"


def test_migrate_says_in_one_line_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_CATALOG_URL", "postgresql+psycopg://nobody@/none?host=/nowhere")
    done = CliRunner().invoke(almanac, ["migrate"])
    assert done.exit_code == 1 and "cannot be opened" in done.output and "Traceback" not in done.output
    assert schema.revisions()
