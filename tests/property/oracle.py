"""Generated histories of documents and facts, and the oracle that says what is visible of them at a moment.

The oracle is `replay` over an append-only log a document or canonical question. It learns from the catalog only what
the catalog alone decides: the record times. Every secret of a version, a paragraph or an answer is a codeword of its
own (`w17`), so that whatever leaks can be told.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.chunk import chunk
from services.catalog.records import DocumentIn, FactIn, PassageIn
from services.common.moment import OPEN_END, OPEN_START, Moment, parse_instant
from services.common.timeline import Assertion, Piece, apply_splice, assertion_span, replay, splice

Row = DocumentIn | FactIn

CODEWORD = re.compile(r"\bw\d+\b")
PASSAGE_WORDS = 20
DOCUMENT_SHARE = 0.6
YEARS = [parse_instant(f"{year}-03-01T00:00:00.000013Z") for year in ("0300", "1150", "1901", "1950", "2019", "2300")]
AXIS = sorted([OPEN_START, OPEN_START + 1, *(year + step for year in YEARS for step in (0, 1, 5)), OPEN_END - 1])
FILTERS: Sequence[Mapping[str, Sequence[str]]] = (
    {"lang": ["en"]},
    {"lang": ["de", "fr"]},
    {"lang": ["en", "de"], "kind": ["b"]},
    {"kind": ["nowhere"]},
)


def codewords(text: str) -> set[str]:
    return set(CODEWORD.findall(text))


def count_words(text: str) -> int:
    return len(text.split()) + 2


@dataclass
class Timeline:
    """The log of one document or canonical question."""

    log: list[Assertion[str]] = field(default_factory=list)
    newest: list[Piece[str]] = field(default_factory=list)

    def would_say(self, start: int | None, end: int | None, content: str, recorded: int) -> Assertion[str] | None:
        """What a row adds to the log at this record time; None if it adds nothing. Undated, `start` is None."""
        if start is None:
            same = [piece.valid for piece in self.newest if piece.content == content]
            if any(recorded in valid or valid.end == end for valid in same):
                return None
            start = recorded if self.newest else OPEN_START
        if end is not None and end <= start:
            return None
        span = assertion_span(self.newest, start, end)
        return Assertion(span, recorded, content) if splice(self.newest, span, content).add else None

    def say(self, said: Assertion[str]) -> None:
        assert said.content is not None
        self.newest = apply_splice(self.newest, splice(self.newest, said.valid, said.content))
        self.log.append(said)

    def at(self, moment: Moment) -> str | None:
        return replay(self.log, moment)


@dataclass
class Place:
    """One collection of one tenant as it was told to the catalog."""

    tenant: str
    collection: str
    history_job: str = ""
    documents: dict[str, Timeline] = field(default_factory=dict)
    questions: dict[str, Timeline] = field(default_factory=dict)
    versions: dict[str, DocumentIn] = field(default_factory=dict)
    facts: dict[str, FactIn] = field(default_factory=dict)
    records: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.tenant}/{self.collection}"

    def told(self, row: Row, recorded: int) -> bool:
        """Take a row in at its record time; False if it says nothing new."""
        timeline, content = self._timeline(row)
        start = row.valid_from
        if isinstance(row, FactIn) and start is None:
            start = OPEN_START
        said = timeline.would_say(start, row.valid_to, content, recorded)
        if said is not None:
            timeline.say(said)
            self.records.append(recorded)
        return said is not None

    def _timeline(self, row: Row) -> tuple[Timeline, str]:
        if isinstance(row, FactIn):
            fact = row.fact_id(self.tenant, self.collection)
            self.facts[fact] = row
            return self.questions.setdefault(row.question, Timeline()), fact
        version = row.version_id(self.tenant, self.collection)
        self.versions[version] = row
        return self.documents.setdefault(row.doc_id, Timeline()), version

    def versions_at(self, moment: Moment) -> dict[str, str]:
        """The version visible of each document that has one."""
        said = {doc_id: timeline.at(moment) for doc_id, timeline in self.documents.items()}
        return {doc_id: version for doc_id, version in said.items() if version is not None}

    def fact_at(self, question: str, moment: Moment) -> str | None:
        return self.questions[question].at(moment) if question in self.questions else None

    def passages_at(self, moment: Moment, filters: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, PassageIn]]:
        """Passage id → the version visible and the first place where the passage stands in it."""
        found: dict[str, tuple[str, PassageIn]] = {}
        for version in self.versions_at(moment).values():
            row = self.versions[version]
            if all(row.metadata.get(key) in values for key, values in filters.items()):
                for one in row.passages:
                    found.setdefault(row.passage_id(self.tenant, self.collection, one), (version, one))
        return found

    def may_show(self, moment: Moment) -> set[str]:
        """Every codeword of what is visible."""
        rows = [self.versions[version] for version in self.versions_at(moment).values()]
        shown = {word for row in rows for word in codewords(f"{row.title} {row.uri} {row.text}")}
        said = [self.fact_at(question, moment) for question in self.questions]
        answers = [self.facts[fact] for fact in said if fact is not None]
        return shown | {word for fact in answers for word in codewords(f"{fact.answer} {fact.source}")}

    def boundaries(self) -> list[int]:
        logs = [timeline.log for timeline in (*self.documents.values(), *self.questions.values())]
        return sorted({edge for log in logs for said in log for edge in (said.valid.start, said.valid.end)})

    def moments(self, dice: random.Random) -> Iterator[tuple[int, int | None]]:
        """Random (as_of, known_at) at, around and between boundaries; known_at None for all that is on record."""
        edges, records = self.boundaries(), self.records
        while True:
            here = [_near(dice, edges), _near(dice, edges), _between(dice, edges)]
            as_of = dice.choice([*here, dice.choice(AXIS), dice.choice([OPEN_START, OPEN_END])])
            earlier = [_near(dice, records), _near(dice, records), _between(dice, records)]
            known_at = dice.choice([None, records[-1], *earlier, *earlier, records[0] - 1, OPEN_START])
            yield _clamped(as_of), known_at


def _near(dice: random.Random, instants: Sequence[int]) -> int:
    return dice.choice(instants) + dice.choice([-1, 0, 0, 1])


def _between(dice: random.Random, instants: Sequence[int]) -> int:
    low, high = sorted((dice.choice(instants), dice.choice(instants)))
    return dice.randint(low, high)


def _clamped(when: int) -> int:
    return min(max(when, OPEN_START), OPEN_END)


class Writer:
    """Makes up documents and facts; the same names and questions for every tenant, never the same words in them."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._codewords = 0
        self._paragraphs: dict[tuple[str, str], list[str]] = {}
        self._said: dict[tuple[str, str], list[Row]] = {}

    def history(self, place: Place, number: int) -> list[Row]:
        """The rows of one document or one question, in the order they are recorded."""
        is_document = self._dice.random() < DOCUMENT_SHARE
        return [
            self._document(place, number) if is_document else self._fact(place, number)
            for _ in range(self._dice.choice([1, 2, 2, 3, 3, 4, 6]))
        ]

    def _codeword(self) -> str:
        self._codewords += 1
        return f"w{self._codewords}"

    def _span(self) -> tuple[int | None, int | None]:
        """An open end, a correction of the past or a gap; now and then undated."""
        dice = self._dice
        start, end = sorted(dice.sample(AXIS, 2))
        valid_from = None if dice.random() < 0.25 else start
        return valid_from, None if dice.random() < 0.5 else end

    def _document(self, place: Place, number: int) -> DocumentIn:
        dice, name = self._dice, f"Dunmore{number}"
        said = self._said.setdefault((str(place), name), [])
        valid_from, valid_to = self._span()
        again = dice.choice(said) if said and dice.random() < 0.2 else None
        if isinstance(again, DocumentIn):
            described = (again.title, again.text, again.uri, again.metadata)
        else:
            title = f"{name} {self._codeword()}" if dice.random() < 0.3 else name
            metadata = {"lang": dice.choice(["en", "de", "fr"]), "kind": dice.choice("ab")}
            uri = f"https://example.org/{self._codeword()}"
            described = (title, self._text(place, name), uri, metadata if dice.random() < 0.9 else {})
        row = _chunked(f"docs/{name}", *described, valid_from, valid_to)
        said.append(row)
        return row

    def _text(self, place: Place, name: str) -> str:
        """One to four paragraphs, some of them standing in other versions too, or twice in this one."""
        known = self._paragraphs.setdefault((str(place), name), [])
        known += [self._paragraph(name) for _ in range(self._dice.choice([1, 1, 2]))]
        chosen = self._dice.choices(known, k=self._dice.randint(1, 3))
        heading = ["# History"] if self._dice.random() < 0.3 else []
        return "\n\n".join([chosen[0], *heading, *chosen[1:], known[-1]]) + "\n"

    def _paragraph(self, name: str) -> str:
        first, second = self._codeword(), self._codeword()
        return f"The keeper of {name} is Alba {first}. Each keeper lives at {second} with a dog."

    def _fact(self, place: Place, number: int) -> FactIn:
        question = f"Who leads Station{number}?"
        said = self._said.setdefault((str(place), question), [])
        valid_from, valid_to = self._span()
        again = self._dice.choice(said) if said and self._dice.random() < 0.25 else None
        if isinstance(again, FactIn):
            answer, source = again.answer, again.source
        else:
            answer, source = f"Bela {self._codeword()}", f"list {self._codeword()}"
        row = FactIn(question, answer, source=source, valid_from=valid_from, valid_to=valid_to)
        said.append(row)
        return row


def _chunked(
    doc_id: str, title: str, text: str, uri: str, metadata: Mapping[str, str], start: int | None, end: int | None
) -> DocumentIn:
    chunks = chunk(text, title, count_words, PASSAGE_WORDS)
    passages = tuple(PassageIn(one.ordinal, one.section, one.start, one.end, one.embedded) for one in chunks)
    return DocumentIn(doc_id, title, text, uri, metadata, start, end, passages=passages)
