"""The promise of the moment at the index: what is visible is exactly what a naive replay of the log says.

Each example is a seed: the versions and corrections of some documents in several tenants and collections, applied to
every backend in stretches of random length, some of them twice. A row is one search of a (history, tenant, moment,
filter) in all of the backends; it must find what is visible, and nothing else. ALMANAC_PROPERTY_ROWS sets how many rows
there are in all; `pytest -v` prints how many each backend had, a failure prints its seed.
"""

import asyncio
import math
import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, parse_instant
from services.common.nodes.retriever import Close, Point, Target
from services.common.timeline import Assertion, apply_splice, assertion_span, replay, splice
from services.retriever.backends.rows.table import Table
from tests.fakes.retriever import BACKENDS, QDRANT_URL, apply, changes, index_directory, query, retriever_over, vector

ROWS = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "1000"))
PLACES = [(tenant, collection) for tenant in ("acme", "rival", "third") for collection in ("notes", "other")]
DOCUMENTS, MOMENTS = 8, 16
"""Of a collection: its documents, and the moments it is searched at."""
ROWS_A_SEED = len(PLACES) * MOMENTS
CONTENTS, LANGUAGES = ["A", "B", "C"], ["de", "en", "fr"]
FIRST_RECORD = parse_instant("2026-01-01T00:00:00.000001Z")
YEARS = [parse_instant(f"{year}-03-01T00:00:00.000013Z") for year in ("0300", "1150", "1900", "2026", "2300", "9000")]
AXIS = sorted([OPEN_START, OPEN_START + 1, *(year + step for year in YEARS for step in (0, 1, 5)), OPEN_END - 1])


@dataclass
class Document:
    log: list = field(default_factory=list)
    current: list = field(default_factory=list)


@dataclass
class Collection:
    """What a catalog would hold of one collection: its documents, every point's extent, and its record."""

    tenant: str
    name: str
    documents: dict[str, Document] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    recorded: int = FIRST_RECORD

    def assert_over(self, doc_id, start, end, content):
        self.recorded += 1
        document = self.documents.setdefault(doc_id, Document())
        span = assertion_span(document.current, start, end)
        change = splice(document.current, span, content)
        document.log.append(Assertion(span, self.recorded, content))
        document.current = apply_splice(document.current, change)
        self._write(doc_id, change)

    def _write(self, doc_id, change):
        for point in self.points.values():
            is_open = point.doc_id == doc_id and point.extent.recorded.end == OPEN_END
            if is_open and any(point.extent.valid == piece.valid for piece in change.close):
                ended = Extent(point.extent.valid, Span(point.extent.recorded.start, self.recorded))
                self.points[point.point_id] = replace(point, extent=ended)
        for piece in change.add:
            point_id = f"{doc_id}/{len(self.points)}"
            extent = Extent(piece.valid, Span(self.recorded, OPEN_END))
            item_id, text = f"{doc_id}={piece.content}", f"common {piece.content}"
            said = {"content": piece.content, "language": language_of(doc_id)}
            self.points[point_id] = Point(point_id, Target.PASSAGES, item_id, doc_id, extent, text, said)

    def stretch(self, start, end, closed_at_once):
        """What was recorded in (start, end]; points closed inside it either come closed or are closed afterwards."""
        upserts = [point for point in self.points.values() if start < point.extent.recorded.start <= end]
        closes = [
            Close(point.point_id, point.extent.recorded.end)
            for point in self.points.values()
            if start < point.extent.recorded.end <= end
        ]
        if not closed_at_once:
            reopened = [Extent(point.extent.valid, Span(point.extent.recorded.start, OPEN_END)) for point in upserts]
            upserts = [replace(point, extent=extent) for point, extent in zip(upserts, reopened, strict=True)]
        return changes(upserts, closes)

    def visible(self, moment, content=CONTENTS, language=LANGUAGES):
        said = {doc_id: replay(document.log, moment) for doc_id, document in self.documents.items()}
        return {
            f"{doc_id}={held}" for doc_id, held in said.items() if held in content and language_of(doc_id) in language
        }


def language_of(doc_id):
    return LANGUAGES[sum(doc_id.encode()) % len(LANGUAGES)]


def random_collection(rng, tenant, name, documents):
    collection = Collection(tenant, name)
    doc_ids = [f"{tenant}-{name}-{n}" for n in range(documents)]
    writes = [doc_id for doc_id in doc_ids for _ in range(rng.randint(1, 7))]
    rng.shuffle(writes)
    for doc_id in writes:
        start, end = sorted(rng.sample(AXIS, 2))
        content = rng.choice([*CONTENTS, None])
        collection.assert_over(doc_id, start, None if rng.random() < 0.4 else end, content)
    return collection


async def feed(rng, retriever, collection):
    """Apply the whole record in a few stretches, now and then one that was applied before."""
    cuts = sorted({rng.randint(FIRST_RECORD, collection.recorded) for _ in range(3)} | {collection.recorded})
    done = [OPEN_START]
    for cut in cuts:
        start = done[-1] if rng.random() < 0.6 else rng.choice(done)
        batch = collection.stretch(start, cut, closed_at_once=rng.random() < 0.5)
        await apply(retriever, batch, start=start, end=cut, tenant=collection.tenant, collection=collection.name)
        done.append(cut)


def random_filter(rng):
    """None, one key or both; values that some, all or none of the documents have."""
    chosen = {}
    if rng.random() < 0.4:
        chosen["content"] = rng.sample([*CONTENTS, "none"], rng.randint(1, 3))
    if rng.random() < 0.3:
        chosen["language"] = rng.sample(LANGUAGES, rng.randint(1, 2))
    return chosen


def random_rows(rng, collection):
    for _ in range(MOMENTS):
        as_of = min(OPEN_END, max(OPEN_START, rng.choice(AXIS) + rng.randint(-1, 1)))
        yield Moment(as_of, rng.randint(FIRST_RECORD, collection.recorded)), random_filter(rng)


async def check(retriever, collection, moment, chosen):
    place = {"tenant": collection.tenant, "collection": collection.name}
    asked = query("common", vector(1), moment.as_of, moment.known_at, **place)
    hits = (await retriever.search(replace(asked, filters=chosen))).hits
    expected = collection.visible(moment, **chosen)
    assert {hit.item_id for hit in hits if hit.dense is not None} == expected, (place, moment, chosen)
    assert {hit.item_id for hit in hits if hit.lexical is not None} == expected, (place, moment, chosen)
    assert len(hits) == len(expected)


async def run(seed, checked):
    rng = random.Random(seed)
    collections = [random_collection(rng, tenant, name, DOCUMENTS) for tenant, name in PLACES]
    rows = [(collection, *row) for collection in collections for row in random_rows(rng, collection)]
    for backend in BACKENDS:
        with index_directory() as directory:
            retriever = retriever_over(backend, directory)
            for collection in collections:
                await feed(rng, retriever, collection)
            searched = sample(backend, rows)
            await asyncio.gather(*(check(retriever, *row) for row in searched))
            await retriever.close()
            checked[backend] += len(searched)


def sample(backend, rows):
    """Qdrant's client filters in Python without a server, some 15 ms a search: every fourth row."""
    return rows[::4] if backend == "qdrant" and not QDRANT_URL else rows


def index_now_and_then(monkeypatch):
    """The times of the embedded engines' rows, as a build does with many: what comes and ends later lies beside it."""
    append = Table.append

    def appended(table, rows, times):
        append(table, rows, times)
        if len(table) % 3 == 0:
            table.adopt(table.indexing()())

    monkeypatch.setattr(Table, "append", appended)


def test_what_is_visible_is_what_the_replay_of_the_log_says(request, capsys, monkeypatch):
    index_now_and_then(monkeypatch)
    checked = Counter()

    @settings(
        max_examples=max(1, math.ceil(ROWS / ROWS_A_SEED)),
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a seed does not shrink
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**32 - 1))
    def holds(seed):
        asyncio.run(run(seed, checked))

    holds()
    assert min(checked[backend] for backend in BACKENDS) >= ROWS // 4 and checked["memory"] >= ROWS
    if request.config.get_verbosity() > 0:
        with capsys.disabled():
            rows = ", ".join(f"{backend} {checked[backend]}" for backend in BACKENDS)
            print(f"\nrows checked: {rows}; no forbidden hit, none missing")
