"""The facts step: the canonical question that is being asked, and its answer at the moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.catalog.reading import FactAt, Phrasing, fact_at, phrasings, question_named
from services.common.errors import MomentViolation
from services.common.moment import format_instant
from services.common.nodes.encoder import TextKind
from services.common.nodes.features import FACTS
from services.common.nodes.retriever import Query, Stage, Target
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.executor import calling
from services.orchestrator.graph.matching import Candidate, choose, doubtful, named_year, without_names
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.search import Vector

CANDIDATES = 8
_BEFORE_MARK = re.compile(r"\s+(?=[?.!,])")


Searched = Callable[[Sequence[Stage]], None]
"""Told by which stages the canonical questions were searched."""


def _untold(_: Sequence[Stage]) -> None:
    return None


async def find_fact(
    nodes: Nodes, question: Question, vector: Vector | None, searched: Searched = _untold
) -> FactAt | None:
    """The fact that answers the question at its moment, None if there is none.

    Without a vector only a question in the very words of a canonical one is recognised. Raises MomentViolation if the
    features node gives what the catalog does not see at the moment.
    """
    question = _without_phrase(question)
    known = named(nodes, question) if vector is None else _match(nodes, question, vector, searched)
    asked = await known
    if asked is None:
        return None
    with calling("features"):
        [row] = await nodes.features.read(question.scope, FACTS, [asked])
    if not row.found:
        return None
    fact = await asyncio.to_thread(_fact, nodes, question, asked, str(row.values["fact_id"]))
    if fact is None:
        raise MomentViolation("the features node gave a fact that is not visible at the moment")
    return fact


async def canonical(nodes: Nodes, question: Question, vector: Vector) -> str | None:
    """The key of the canonical question that is asked, whatever holds at the moment; None if it is none of them."""
    return await named(nodes, question) or await _match(nodes, question, vector, _untold)


async def named(nodes: Nodes, question: Question) -> str | None:
    """The canonical question in these very words."""

    def read() -> str | None:
        with nodes.catalog.read() as tx:
            known_at = question.moment.known_at
            return question_named(tx, question.tenant, question.collection, question.text.strip(), known_at)

    return await asyncio.to_thread(read)


async def _match(nodes: Nodes, question: Question, vector: Vector, searched: Searched) -> str | None:
    with calling("retriever"):
        query = Query(question.scope, Target.QUESTIONS, "", vector, CANDIDATES, exact=question.exact)
        found = await nodes.retriever.search(query)
    hits = found.hits
    searched(found.plan)
    asked = await asyncio.to_thread(_asked, nodes, question, [hit.item_id for hit in hits])
    near = [(asked[hit.item_id], hit.dense or 0.0) for hit in hits]
    candidates = [Candidate(one.question_key, one.text, cosine) for one, cosine in near]
    chosen = choose(question.text, await _compared(nodes, question, candidates))
    return chosen.key if chosen and _at_its_time(question, chosen.question) else None


async def _compared(nodes: Nodes, question: Question, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The candidates, those that ask with other words compared with the question, names left out of both."""
    unsure = doubtful(question.text, candidates)
    if not unsure:
        return candidates
    texts = [without_names(text, one.question) for one in unsure for text in (question.text, one.question)]
    with calling("encoder"):
        vectors = await nodes.encoder.encode(question.generation.encoder, TextKind.QUERY, texts)
    alike = {one: float(a @ b) for one, a, b in zip(unsure, vectors[::2], vectors[1::2], strict=True)}
    return [replace(one, alike=alike.get(one)) for one in candidates]


def _without_phrase(question: Question) -> Question:
    """The question without the words that its moment was taken from: the moment says that, not it."""
    if not question.phrase:
        return question
    left = " ".join(question.text.replace(question.phrase, " ", 1).split()).strip(" ,")
    return replace(question, text=_BEFORE_MARK.sub("", left))


def _at_its_time(question: Question, canonical: str) -> bool:
    """Whether a year the question names is the canonical one's or the moment's: another year has another answer."""
    year = named_year(question.text)
    if year is None or year == named_year(canonical):
        return True
    return format_instant(question.moment.as_of).startswith(f"{year:04d}-")


def _asked(nodes: Nodes, question: Question, keys: list[str]) -> dict[str, Phrasing]:
    with nodes.catalog.read() as tx:
        found = phrasings(tx, keys, question.moment.known_at)
    if len(found) < len(set(keys)):
        raise MomentViolation("the retriever gave a canonical question that was not on record at the moment")
    return found


def _fact(nodes: Nodes, question: Question, question_key: str, fact_id: str) -> FactAt | None:
    with nodes.catalog.read() as tx:
        return fact_at(tx, question_key, fact_id, question.moment)
