"""Counts of what documents were used for, at any moment, against an oracle that reads the whole log each time."""

import random
from collections import Counter

import pytest
from sqlalchemy import select

from services.catalog import answers, events
from services.catalog.changes import feature_changes
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.records import DocumentIn
from services.catalog.state import known_collections
from services.catalog.tables import events as log
from services.common.moment import OPEN_START, Moment, now
from services.common.nodes.scope import Scope, Stretch
from services.common.nodes.usage import FIELDS, USAGE
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures

TENANT, HERE = "acme", "notes"
DOCUMENTS = [f"doc-{n}" for n in range(4)]
HOUR, DAY = 3_600_000_000, 86_400_000_000
SPANS = {"1d": (DAY, HOUR), "7d": (7 * DAY, DAY), "30d": (30 * DAY, DAY), "ever": (1_000_000 * DAY, 1)}


@pytest.fixture
def catalog(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with opened.write() as tx:
        recorder = Recorder(tx, TENANT, HERE)
        for doc_id in DOCUMENTS:
            recorder.document(DocumentIn(doc_id, doc_id, doc_id))
        recorder.close()
    yield opened
    opened.close()


def up(instant, step):
    return -(-instant // step) * step


def counted(rows, document, as_of, known_at):
    """The counts of a document at a moment, event by event, window by window."""
    found = Counter()
    seen = [row for row in rows if row.recorded_at <= known_at]
    words = {}
    for row in sorted(seen, key=lambda row: row.payload["at"]):
        at = row.payload["at"]
        if row.kind == "feedback" and at <= as_of:
            words[row.payload["answer_id"], row.payload["user"]] = row
        elif row.kind in ("search", "answer") and up(at + 1, HOUR) <= as_of:
            for measure in ("retrieved", "cited"):
                _count(found, measure, up(at + 1, HOUR), as_of, row.payload.get(measure, ()).count(document))
    for row in words.values():
        measure = "helpful" if row.payload["helpful"] else "unhelpful"
        _count(found, measure, row.payload["at"], as_of, row.payload["cited"].count(document))
    return {field: found[field] for field in FIELDS}


def _count(found, measure, at, as_of, times):
    for window, (length, step) in SPANS.items():
        if as_of < up(at, step) + length:
            found[f"{measure}_{window}"] += times


class Traffic:
    """Events with causes of their own, some delivered twice, some late."""

    def __init__(self, catalog, dice):
        self.catalog, self.dice, self.answers, self.sent, self.newest = catalog, dice, [], [], now()

    def at(self):
        return self.newest - self.dice.choice([0, 5_000_000, HOUR, DAY]) * self.dice.randint(0, 40)

    def documents(self):
        return self.dice.sample(DOCUMENTS, self.dice.randint(1, 3))

    def happen(self):
        kind = self.dice.choice(["search", "answer", "feedback", "feedback", "again"])
        if kind == "search":
            self.send(events.searched, [events.Search(str(len(self.sent)), TENANT, HERE, self.at(), self.documents())])
        elif kind == "answer" or not self.answers or not self.sent:
            self.answer()
        elif kind == "feedback":
            word = events.Word(self.dice.random() < 0.5)
            self.send(events.judged, TENANT, self.dice.choice("ab"), self.dice.choice(self.answers), word, self.at())
        else:
            self.send(*self.dice.choice(self.sent[-3:]), again=True)

    def answer(self):
        cited = [{"n": n, "doc_id": document} for n, document in enumerate((*self.documents(), ""), start=1)]
        with self.catalog.write() as tx:
            made = answers.create(tx, TENANT, HERE, {})
        found = {"answer": "So [1]. And [2, 3, 4].", "citations": cited, "retrieved": [*self.documents(), "gone"]}
        at = self.at()
        with self.catalog.write() as tx:
            assert events.record_answer(tx, made, 1, answers.DONE, found, at)
            assert not events.record_answer(tx, made, 1, answers.DONE, found, at)
        self.answers.append(made)

    def send(self, write, *arguments, again=False):
        with self.catalog.write() as tx:
            write(tx, *arguments)
        if not again:
            self.sent.append((write, *arguments))


async def apply(catalog, features):
    [(_, _, newest)] = _known(catalog)
    start = await features.position(USAGE, TENANT, HERE)
    with catalog.read() as tx:
        batches = list(feature_changes(tx, USAGE, Stretch(TENANT, HERE, start, newest)))

    async def sent():
        for batch in batches:
            yield batch

    await features.append(USAGE, Stretch(TENANT, HERE, start, newest), sent())
    return sum(map(len, batches))


def _known(catalog):
    with catalog.read() as tx:
        return known_collections(tx)


def logged(catalog):
    with catalog.read() as tx:
        return list(tx.execute(select(log).where(log.c.kind.in_(events.KINDS))))


async def read(features, as_of, known_at):
    rows = await features.read(Scope(TENANT, HERE, "g", Moment(as_of, known_at)), USAGE, DOCUMENTS)
    return [dict(row.values) if row.found else dict.fromkeys(FIELDS, 0) for row in rows]


async def test_counts_are_the_logs_at_every_moment(catalog, seed, histories):
    dice = random.Random(seed)
    traffic, features, anew = Traffic(catalog, dice), *(PointInTimeFeatures(MemoryBackend()) for _ in range(2))
    stretches = []
    for _ in range(12):
        for _ in range(dice.randint(1, 12)):
            traffic.happen()
        with catalog.write() as tx:
            events.record(tx, TENANT, HERE)
        await apply(catalog, features)
        stretches += [_known(catalog)[0][2]]
    rows = logged(catalog)
    assert {row.kind for row in rows} == set(events.KINDS)
    assert await apply(catalog, features) == 0
    await apply(catalog, anew)
    edges = sorted({edge for row in rows for at in [row.payload["at"]] for edge in _edges(at)})
    seen = Counter()
    for _ in range(min(histories, 2_000) // 5):
        as_of = dice.choice(edges) + dice.choice([-1, 0, 0, 1, HOUR // 2])
        known_at = dice.choice([OPEN_START, *stretches]) + dice.choice([0, 0, -1])
        known_at = max(known_at, OPEN_START)
        expected = [counted(rows, document, as_of, known_at) for document in DOCUMENTS]
        assert await read(features, as_of, known_at) == expected, (as_of, known_at)
        assert await read(anew, as_of, known_at) == expected, (as_of, known_at)
        seen.update(bool(sum(one.values())) for one in expected)
    assert seen[True] > seen.total() / 4 and seen[False]


def _edges(at):
    start = up(at + 1, HOUR)
    return [
        at,
        start,
        *(up(begun, step) + length for begun in (at, start) for length, step in list(SPANS.values())[:3]),
    ]
