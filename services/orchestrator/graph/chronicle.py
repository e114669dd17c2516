"""Every distinct answer to a question, with the span of valid time over which it was the answer.

Facts by their own timeline. Where none holds, the documents found are asked at the moments where one of their versions
begins or ends: these bring other documents, and so other moments, until no stretch is left or there are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

from services.catalog.reading import FactAt, document_edges, fact_extents_at
from services.common.moment import OPEN_END, OPEN_START, Moment, Span
from services.orchestrator.graph.answer import Answer, Citation, Event, Question
from services.orchestrator.graph.citing import cite_fact
from services.orchestrator.graph.executor import together
from services.orchestrator.graph.facts import canonical
from services.orchestrator.graph.matching import without_time
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.search import query_vector

MOST_MOMENTS = 32
"""Moments at which documents are asked; each is a quoted answer."""
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer and the span of valid time it holds over."""

    span: Span
    answer: str
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Chronicle:
    """complete: whether every stretch was asked about; where not, those left out are missing between the entries."""

    entries: tuple[Entry, ...]
    complete: bool


async def chronicle(nodes: Nodes, question: Question, most: int = MOST_MOMENTS) -> Chronicle:
    """The answers in order of time, as known at the question's `known_at`; adjacent equal ones are one.

    Documents are quoted, nothing is generated: an answer is its best quote. Where nothing answers there is no entry.
    Raises what `run.answer` raises.
    """
    asked = replace(question, text=without_time(question.text), generate=False)
    told = [_told(fact) for fact in await _facts(nodes, asked)]
    walk = _Walk(nodes, asked, most, {entry.span: entry for entry in told})
    complete = await walk.run()
    return Chronicle(tuple(merged(walk.entries)), complete)


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """In order of time; of adjacent ones with the same answer, one over both spans."""
    joined: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: entry.span):
        last = joined[-1] if joined else None
        if last is not None and last.span.end == entry.span.start and last.answer == entry.answer:
            joined[-1] = replace(last, span=Span(last.span.start, entry.span.end))
        else:
            joined.append(entry)
    return joined


async def _facts(nodes: Nodes, question: Question) -> Sequence[FactAt]:
    try:
        vector = await query_vector(nodes, question.generation, question.text)
        key = await canonical(nodes, question, vector)
    except NodeFailed as failure:
        raise failure.error from None
    if key is None:
        return ()
    known_at = question.moment.known_at
    return await nodes.catalog.reading(lambda tx: fact_extents_at(tx, key, known_at))


def _told(fact: FactAt) -> Entry:
    return Entry(fact.extent.valid, fact.answer, (cite_fact(fact),))


@dataclass
class _Walk:
    """Stretches of valid time, each asked about once: those between neighbouring edges that nothing covers yet."""

    nodes: Nodes
    question: Question
    most: int
    facts: dict[Span, Entry]
    edges: set[int] = field(default_factory=set)
    asked: dict[int, Entry | None] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)

    async def run(self) -> bool:
        """Whether it came to its end."""
        self.edges = {edge for span in self.facts for edge in (span.start, span.end)}
        while (instants := self._open()) and len(self.asked) < self.most:
            few = instants[: min(AT_ONCE, self.most - len(self.asked))]
            given = await together((partial(self._ask, instant) for instant in few), AT_ONCE)
            await self._learn({doc_id for one in given for doc_id in one.retrieved})
        return not instants

    @property
    def entries(self) -> list[Entry]:
        by_documents = [self._entry(span) for span in self._stretches()]
        return [*self.facts.values(), *(entry for entry in by_documents if entry is not None)]

    def _entry(self, span: Span) -> Entry | None:
        found = next((entry for instant, entry in self.asked.items() if instant in span), None)
        return None if found is None else replace(found, span=span)

    def _stretches(self) -> list[Span]:
        bounds = sorted({OPEN_START, OPEN_END, *self.edges})
        return [Span(start, end) for start, end in pairwise(bounds) if not self._covered(start)]

    def _open(self) -> list[int]:
        """An instant of each stretch not asked about, the newest first."""
        left = [span for span in self._stretches() if not any(instant in span for instant in self.asked)]
        return [max(span.start, min(self.question.moment.as_of, span.end - 1)) for span in reversed(left)]

    def _covered(self, instant: int) -> bool:
        return any(instant in span for span in self.facts)

    async def _ask(self, as_of: int) -> Answer:
        question = replace(self.question, moment=Moment(as_of, self.question.moment.known_at))
        given = await answer(self.nodes, question, _silent)
        self.asked[as_of] = _quoted(given)
        return given

    async def _learn(self, documents: set[str]) -> None:
        new, where = sorted(documents - self.documents), self.question
        self.documents |= documents
        if new:
            self.edges |= await self.nodes.catalog.reading(
                lambda tx: document_edges(tx, where.tenant, where.collection, new, where.moment.known_at)
            )


def _quoted(given: Answer) -> Entry | None:
    if given.grounding == "abstained":
        return None
    best = given.citations[0]
    return Entry(Span(), best.quote, (best,))


async def _silent(_: Event) -> None:
    return None
