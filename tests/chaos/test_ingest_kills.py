"""Ingestion while its processes are killed: in the end all is as if nothing had happened, and never half there."""

import gzip
import json
import os
import random
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pyarrow.dataset as ds
import pytest

from services.catalog.state import VIEWS
from tests.support import EXAMPLES, eventually, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DATA = Path(os.environ.get("ALMANAC_DATA", "../shared/data")) / "wiki_pages.jsonl.gz"
KILLS = int(os.environ.get("ALMANAC_CHAOS_KILLS", "8"))
KILLS_A_RUN = 15
PAGES = 60 if KILLS > KILLS_A_RUN else 20
VICTIMS = ("worker", "encoder", "retriever", "features", "generator", "gateway", "valkey")
COLLECTION = "pages"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The documents, each findable by its metadata, and the versions of the sample corpus, as one file."""
    if not DATA.exists():
        pytest.skip(f"{DATA} is missing")
    with gzip.open(DATA, "rt") as pages:
        found = [json.loads(line) for _, line in zip(range(PAGES), pages, strict=False)]
    found += [json.loads(line) for line in (EXAMPLES / "history.jsonl").read_text().splitlines()]
    for row in found:
        row.pop("recorded_at", None)
        row["metadata"] = {"page": row["id"]}
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in found))
    return path


def ingest(stack, rows):
    """Upload until the gateway has taken it in, then wait for the end, whatever is killed meanwhile."""

    def upload():
        try:
            with rows.open("rb") as body:
                sent = httpx.post(
                    f"{stack.url}/v1/documents",
                    files={"files": ("rows.jsonl", body)},
                    data={"collection": COLLECTION},
                    timeout=60,
                    trust_env=False,
                )
        except httpx.HTTPError:
            return None
        return sent.json()["job"]["id"] if sent.status_code == 202 else None

    job = eventually(upload, 60)
    return eventually(lambda: finished(stack, job), 900, f"the job did not end\n{stack.logs()}")


def finished(stack, job):
    try:
        found = httpx.get(f"{stack.url}/v1/jobs/{job}", timeout=10, trust_env=False)
    except httpx.HTTPError:
        return None
    body = found.json() if found.status_code == 200 else {}
    return body if body.get("state") in ("done", "failed", "cancelled") else None


def catalog(home):
    """What is on record, without record times, which differ from run to run."""
    with sqlite3.connect(f"file:{home}/catalog.db?mode=ro", uri=True) as db:
        open_end = db.execute("SELECT max(recorded_to) FROM version_extents").fetchone()[0]
        return {
            "versions": db.execute(
                "SELECT doc_id, version_id, valid_from, valid_to, recorded_to = ? FROM version_extents "
                "ORDER BY 1, 2, 3, 4",
                (open_end,),
            ).fetchall(),
            "passages": db.execute("SELECT passage_id, embedded FROM passages ORDER BY 1").fetchall(),
            "occurrences": db.execute(
                'SELECT version_id, ordinal, passage_id, start, "end" FROM occurrences ORDER BY 1, 2'
            ).fetchall(),
            "extents": db.execute(
                "SELECT passage_id, valid_from, valid_to, recorded_to = ? FROM passage_extents ORDER BY 1, 2, 3, 4",
                (open_end,),
            ).fetchall(),
            "vectors": db.execute("SELECT item_id, encoder FROM vectors ORDER BY 1").fetchall(),
        }


def points_expected(home):
    with sqlite3.connect(f"file:{home}/catalog.db?mode=ro", uri=True) as db:
        return sorted(
            db.execute("SELECT passage_id, valid_from, valid_to, recorded_from, recorded_to FROM passage_extents")
        )


def points_indexed(home):
    """Every point of the index directory, read from its files once the stack is down."""
    from services.retriever.backends.edge.graph import EdgeKind
    from services.retriever.backends.rows.segment import Segment
    from services.retriever.backends.rows.state import State

    [directory] = [path.parent for path in (home / "index").rglob("state.json")]
    state = State.read(directory, EdgeKind().name)
    segment = Segment(directory / state.segment, state.dimensions, state.lengths, state.places)
    held = [segment.point(row, place[2]) for place in segment.places for row in segment.living(place).tolist()]
    segment.close()
    return sorted(
        (one.item_id, one.extent.valid.start, one.extent.valid.end, one.extent.recorded.start, one.extent.recorded.end)
        for one in held
    )


def features(home):
    """The documents view without record times, as the Parquet files hold it."""
    table = ds.dataset(home / "features" / "offline" / "documents", format="parquet").to_table()
    kept = sorted(set(table.column_names) & {"entity_key", "event_us", "version_id", "valid_to", "present"})
    return sorted(map(str, table.select(kept).to_pylist()))


class Watcher(threading.Thread):
    """Asks for whole documents all the while; a part of one is what must never be seen."""

    def __init__(self, stack, whole):
        super().__init__(daemon=True)
        self.stack, self.whole = stack, whole
        self.halves, self.seen, self.stopped = [], 0, threading.Event()

    def run(self):
        dice = random.Random(1)
        documents = sorted(doc for doc, sizes in self.whole.items() if max(sizes) <= 60)
        while not self.stopped.wait(0.05):
            doc = dice.choice(documents)
            body = {"query": doc, "collection": COLLECTION, "limit": 100, "filters": {"page": [doc]}}
            try:
                found = httpx.post(f"{self.stack.url}/v1/search", json=body, timeout=10, trust_env=False)
            except httpx.HTTPError:
                continue
            if found.status_code != 200:
                continue
            hits = len(found.json()["hits"])
            self.seen += 1
            if hits not in {0, *self.whole[doc]}:
                self.halves.append((doc, hits, self.whole[doc]))


def sizes(home):
    """How many passages each version of a document has: what a search for the document may give."""
    with sqlite3.connect(f"file:{home}/catalog.db?mode=ro", uri=True) as db:
        query = (
            "SELECT doc_id, version_id, count(DISTINCT passage_id) FROM occurrences JOIN versions USING (version_id) "
            "GROUP BY 1, 2"
        )
        found: dict[str, set[int]] = {}
        for doc, _, count in db.execute(query):
            found.setdefault(doc, set()).add(count)
        return found


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    with running_stack(home) as stack:
        job = ingest(stack, rows)
        assert job["state"] == "done" and job["counts"]["failed"] == 0, job
        settled(stack)
    assert points_indexed(home) == points_expected(home)
    return home


def settled(stack):
    """Wait until every reader has applied the newest record."""

    def caught_up():
        with sqlite3.connect(f"file:{stack.home}/catalog.db?mode=ro", uri=True) as db:
            newest = db.execute("SELECT recorded_at FROM collections WHERE collection = ?", (COLLECTION,)).fetchone()
            marks = db.execute("SELECT recorded_at FROM watermarks WHERE collection = ?", (COLLECTION,)).fetchall()
        return len(marks) == 1 + len(VIEWS) and all(mark == newest for mark in marks)

    eventually(caught_up, 60, f"a reader stays behind\n{stack.logs()}")


@pytest.mark.parametrize("run", range(max(1, KILLS // KILLS_A_RUN)))
def test_after_kills_at_random_everything_is_as_if_undisturbed(run, rows, undisturbed, tmp_path, seed):
    dice = random.Random(seed + run)
    wanted = min(KILLS, KILLS_A_RUN)
    home = tmp_path / "home"
    with running_stack(home) as stack:
        watcher = Watcher(stack, sizes(undisturbed))
        watcher.start()
        ended = {}
        working = threading.Thread(target=lambda: ended.update(ingest(stack, rows)))
        working.start()
        killed = []
        while len(killed) < wanted and working.is_alive():
            time.sleep(dice.uniform(0.5, 3.0))
            name = dice.choice(VICTIMS)
            # Between two starts there is nobody to kill.
            with suppress(ProcessLookupError):
                if stack.processes()[name]["pid"]:
                    stack.kill(name)
                    killed.append(name)
        working.join(900)
        assert ended.get("state") == "done" and ended["counts"]["failed"] == 0, (ended, killed)
        again = ingest(stack, rows)
        assert again["counts"]["encoded"] == 0 and again["counts"]["passages"] == 0, again
        settled(stack)
        watcher.stopped.set()
        watcher.join(15)
    print(f"run {run}: {len(killed)} kills {killed}, {watcher.seen} searches answered, {len(watcher.halves)} halves")
    assert not watcher.halves and watcher.seen > 10
    assert catalog(home) == catalog(undisturbed)
    assert points_indexed(home) == points_expected(home)
    assert features(home) == features(undisturbed)
