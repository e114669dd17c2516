"""A whole stack over PostgreSQL, and the end of a document's validity in it."""

import json

import pytest
from sqlalchemy import create_engine, inspect, text

from services.catalog.engine import Database
from tests.support import eventually, ingest_examples, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUERY, DOCUMENT = "clock tower at Westminster", "westminster-clock-tower"
HERE = ("--collection", "almanac")


@pytest.fixture(scope="module")
def stack(tmp_path_factory, postgres):
    url = postgres.create()
    Database(url).close()
    with running_stack(tmp_path_factory.mktemp("postgres") / "home", ALMANAC_CATALOG_URL=url) as running:
        counts = ingest_examples(running)
        assert counts["failed"] == 0, counts
        yield running


def found(stack, **moment):
    body = {"query": QUERY, "collection": "almanac", "limit": 20, **moment}
    hits = stack.post("/v1/search", body).json()["hits"]
    return DOCUMENT in {hit["doc_id"] for hit in hits}


def test_a_stack_over_postgresql_answers_and_keeps_nothing_in_sqlite(stack):
    answer = stack.ask("Is Pluto a planet?", collection="almanac", as_of="2010-06-01")
    assert "dwarf planet" in answer["answer"] + " ".join(citation["quote"] for citation in answer["citations"])
    assert not (stack.home / "catalog.db").exists()


def test_a_deleted_document_is_soon_not_found_any_more_but_was(stack):
    assert found(stack)
    before = stack.post("/v1/search", {"query": QUERY, "collection": "almanac"}).json()["moment"]
    ended = stack.json("delete", DOCUMENT, *HERE)
    assert ended["ended"]
    eventually(lambda: not found(stack), 20, "the index still shows it")
    assert found(stack, as_of="2020-01-01") and found(stack, **before)
    assert not stack.json("delete", DOCUMENT, *HERE)["ended"]
    shown = stack.almanac("history", DOCUMENT, *HERE).stdout.splitlines()
    assert shown[0].startswith(f"{DOCUMENT}: ") and shown[-1].startswith("  + ") and "…  " not in shown[-1]


def test_what_is_erased_is_in_no_row_and_in_no_page_of_postgresql(stack, postgres, tmp_path):
    path = tmp_path / "secret.jsonl"
    body = "The keeper of the lighthouse is called zanzibarquux. " * 20
    path.write_text(json.dumps({"id": "secret", "title": "titelmarkequux", "text": body}))
    assert stack.json("ingest", str(path), "--collection", "erasing", "--wait")["failed"] == 0
    stack.ask("Who is the keeper of the lighthouse?", collection="erasing")
    for marker in (b"zanzibarquux", b"titelmarkequux"):
        assert {"passages", "versions", "answers"} & rows_with(stack.env["ALMANAC_CATALOG_URL"], marker) and pages_with(
            postgres, marker
        )
    assert stack.json("erase", "secret", "--collection", "erasing", "--yes")["job"]["state"] == "done"
    for marker in (b"zanzibarquux", b"titelmarkequux"):
        assert not rows_with(stack.env["ALMANAC_CATALOG_URL"], marker) and not pages_with(postgres, marker)


def rows_with(url, marker):
    """The tables with a row that holds the marker."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = inspect(engine).get_table_names()
        rows = {table: repr(connection.execute(text(f'SELECT * FROM "{table}"')).all()).encode() for table in tables}
    engine.dispose()
    return {table for table, held in rows.items() if marker in held}


def pages_with(postgres, marker):
    return [path.name for path in postgres.files() if marker in path.read_bytes()]
