"""The inference graph: which steps an answer takes, what each needs, and what happens when one cannot be done.

    encode ─┬─▶ facts ─────────────┬─▶ evidence ─▶ generate
            └─▶ retrieve ─▶ rank ──┘

A fact that answers the question ends the work: evidence and generation are passed over. So is ranking, where the
question says that no feature weighs anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from services.catalog.reading import FactAt
from services.common.errors import Unavailable
from services.common.nodes.retriever import Stage
from services.common.rpc.deadlines import deadline
from services.common.telemetry import trace_id
from services.orchestrator.graph.answer import Answer, Emit, Event, Question
from services.orchestrator.graph.citing import basis, cite_fact
from services.orchestrator.graph.costing import counting
from services.orchestrator.graph.executor import Results, Step, Trace, execute
from services.orchestrator.graph.facts import find_fact
from services.orchestrator.graph.finding import Evidence, find_evidence
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.ranking import SECONDS as RANK_SECONDS
from services.orchestrator.graph.released import NOTHING, Released
from services.orchestrator.graph.search import SearchHit, depth, exhaustive, find_passages, query_vector, rank_passages
from services.orchestrator.graph.writing import Written, write

ANSWER_SECONDS = 60.0
PASSAGES = 12
"""How many passages evidence is chosen from; the right one is among the first eight in 99.8 % of xquad's questions."""


async def answer(nodes: Nodes, question: Question, emit: Emit, released: Released = NOTHING) -> Answer:
    """Answer the question at its moment, telling `emit` each step, citation and released text.

    What an earlier attempt has `released` already is kept, and its text not told again. Raises Unavailable
    where neither passages nor facts can be reached, MomentViolation where a backend broke the moment.
    """
    return await _Answering(nodes, question, emit, released).run()


def plan() -> tuple[Step, ...]:
    """The steps as data, of no question in particular."""
    nobody: Any = None
    return _Answering(nobody, nobody, nobody, NOTHING).steps()


class _Answering:
    def __init__(self, nodes: Nodes, question: Question, emit: Emit, released: Released) -> None:
        self._nodes, self._question, self._emit, self._released = nodes, question, emit, released
        self._trace = Trace()
        self._exact = True

    def steps(self) -> tuple[Step, ...]:
        """The graph as data."""
        return (
            Step("encode", self._encode, 5, node="encoder", retries=1, fallback=self._nothing),
            Step("facts", self._facts, 6, ("encode",), node="features", retries=1, fallback=self._facts_by_name),
            Step("retrieve", self._retrieve, 8, ("encode",), node="retriever", retries=1, fallback=self._no_passages),
            Step(
                "rank",
                self._rank,
                RANK_SECONDS,
                ("facts", "retrieve"),
                node="features",
                fallback=self._nothing,
                when=self._to_rank,
            ),
            Step(
                "evidence",
                self._evidence,
                15,
                ("encode", "facts", "rank"),
                node="encoder",
                fallback=self._evidence_by_words,
                when=_no_fact,
            ),
            Step("generate", self._generate, 45, ("facts", "evidence"), node="generator", when=_no_fact),
        )

    async def run(self) -> Answer:
        self._nodes, encoder = counting(self._nodes)
        with deadline(ANSWER_SECONDS):
            results = await execute(self.steps(), self._trace, self._observe, self._nodes.patience)
        fact: FactAt | None = results["facts"]
        written = results["generate"] if fact is None else await self._tell(fact)
        return self._answer(replace(written, cost=replace(written.cost, encoder_texts=encoder.texts)), results)

    async def _encode(self, _: Results) -> object:
        return await query_vector(self._nodes, self._question.generation, self._question.text)

    async def _facts(self, results: Results) -> FactAt | None:
        if self._released.text:
            return None
        return await find_fact(self._nodes, self._question, results["encode"], self._searched)

    def _searched(self, plan: Sequence[Stage]) -> None:
        self._exact = self._exact and exhaustive(plan)

    async def _facts_by_name(self, _: Results) -> FactAt | None:
        """Without the retriever a question in a canonical one's very words is still known; without features nothing."""
        try:
            return await find_fact(self._nodes, self._question, None)
        except NodeFailed as failure:
            self._trace.lost(failure.node)
            return None

    async def _retrieve(self, results: Results) -> list[SearchHit]:
        question = self._question
        deep = depth(PASSAGES, question.weights)
        passages = await find_passages(
            self._nodes, question.scope, question.text, results["encode"], deep, question.filters, question.exact
        )
        self._searched(passages.plan)
        return passages.hits

    def _to_rank(self, results: Results) -> bool:
        return bool(self._question.weights and results["retrieve"]) and _no_fact(results)

    async def _rank(self, results: Results) -> list[SearchHit]:
        return await rank_passages(self._nodes, self._question.scope, results["retrieve"], self._question.weights)

    async def _no_passages(self, _: Results) -> None:
        return None

    async def _evidence(self, results: Results) -> Evidence:
        if self._released.text:
            return self._released.evidence
        return await find_evidence(self._nodes, self._question, self._hits(results), results["encode"])

    async def _evidence_by_words(self, results: Results) -> Evidence:
        return await find_evidence(self._nodes, self._question, self._hits(results), None)

    def _hits(self, results: Results) -> Sequence[SearchHit]:
        if results["retrieve"] is None:
            raise Unavailable("the retriever does not answer, and no fact answers the question; ask again later")
        return _considered(results)

    async def _generate(self, results: Results) -> Written:
        released = self._released
        if released.is_fact:
            return Written(released.text, released.citations, "quoted")
        return await write(self._nodes, self._question, results["evidence"], self._emit, released.text, self._trace)

    async def _tell(self, fact: FactAt) -> Written:
        citation = cite_fact(fact)
        await self._emit(Event("citation", {"citation": citation.to_json()}))
        await self._emit(Event("text", {"text": fact.answer}))
        return Written(fact.answer, (citation,), "quoted")

    async def _nothing(self, _: Results) -> None:
        return None

    async def _observe(self, step: str, ms: float) -> None:
        await self._emit(Event("step", {"step": step, "ms": round(ms, 2)}))

    def _answer(self, written: Written, results: Results) -> Answer:
        question = self._question
        return Answer(
            id=question.answer_id,
            question=question.text,
            collection=question.collection,
            answer=written.text,
            citations=written.citations,
            moment=question.moment,
            grounding=written.grounding,
            degraded=tuple(self._trace.degraded),
            timings_ms=self._trace.timings_ms,
            usage=written.cost.usage(),
            models={"encoder": question.generation.encoder, **written.models},
            generation=question.generation.name,
            exact=self._exact,
            retrieved=tuple(dict.fromkeys(hit.hit.doc_id for hit in _considered(results))),
            similarity=max((hit.hit.dense for hit in _considered(results) if hit.hit.dense is not None), default=None),
            trace_id=trace_id(),
            trace=tuple(asdict(taken) for taken in self._trace.steps),
            basis=basis(_considered(results), written.citations, written.prompt_sha256),
            moment_from="question" if question.phrase else "",
            moment_phrase=question.phrase,
            original=question.original,
        )


def _considered(results: Results) -> list[SearchHit]:
    """The passages that evidence is chosen from, as ranked; in the retriever's order where they were not."""
    found: list[SearchHit] = results["rank"] or results["retrieve"] or []
    return found[:PASSAGES]


def _no_fact(results: Results) -> bool:
    return results["facts"] is None
