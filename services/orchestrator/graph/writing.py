"""The generate step: what the model writes, let through only as far as the evidence carries it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from services.common.nodes.generator import Chunk, Prompt
from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.answer import Citation, Emit, Event, Grounding, Question
from services.orchestrator.graph.costing import NOTHING, Cost
from services.orchestrator.graph.executor import Trace, calling
from services.orchestrator.graph.finding import Evidence
from services.orchestrator.graph.grounding import Evidence as Numbered
from services.orchestrator.graph.grounding import Grounder
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.prompt import build_messages, digest

NAME_SECONDS, GENERATE_SECONDS = 5.0, 40.0
"""How long the generator may take to name its model, and in all: less than its step has, so that quotes stand in."""


@dataclass(frozen=True, slots=True)
class Written:
    """The text of an answer and what it rests on. prompt_sha256: of the messages sent, empty where none were."""

    text: str
    citations: tuple[Citation, ...]
    grounding: Grounding
    cost: Cost = NOTHING
    models: Mapping[str, str] = field(default_factory=dict)
    prompt_sha256: str = ""


async def write(nodes: Nodes, question: Question, evidence: Evidence, emit: Emit, prefix: str, trace: Trace) -> Written:
    """Generate sentence by sentence, quote what the model cannot support, abstain where nothing answers."""
    return await _Writing(nodes, question, evidence, emit, prefix, trace).run()


class _Writing:
    def __init__(
        self, nodes: Nodes, question: Question, evidence: Evidence, emit: Emit, prefix: str, trace: Trace
    ) -> None:
        self._nodes, self._question, self._evidence = nodes, question, evidence
        self._emit, self._trace, self._prefix = emit, trace, prefix
        self._quotes = [Numbered(one.n, one.quote, one.title) for one in evidence.citations]
        self._cost = NOTHING
        self._models: dict[str, str] = {}
        self._sent = ""

    async def run(self) -> Written:
        for citation in self._evidence.citations:
            await self._emit(Event("citation", {"citation": citation.to_json()}))
        grounder = Grounder(self._quotes, quotes=self._evidence.quotes, question=self._question.text)
        grounder.resume(self._prefix)
        if not self._evidence.answerable:
            await self._release(grounder.abstain())
        else:
            whole = await self._generate(grounder) if self._question.generate else False
            await self._release(grounder.finish(truncated=not whole))
        return Written(
            grounder.text, self._evidence.citations, grounder.grounding, self._cost, self._models, self._sent
        )

    async def _generate(self, grounder: Grounder) -> bool:
        """Whether the model came to its own end; the generator lost on the way is no error."""
        finish, prompt, began = "", self._prompt(), time.perf_counter()
        self._sent = digest(prompt.messages)
        try:
            with calling("generator"), deadline(GENERATE_SECONDS):
                with deadline(NAME_SECONDS):
                    self._models = {"generator": (await self._nodes.generator.models())[0]}
                async with aclosing(self._nodes.generator.generate(prompt)) as chunks:
                    async for chunk in chunks:
                        await self._release(grounder.feed(chunk.text))
                        finish = chunk.finish_reason
                        self._count(chunk, began)
                        if grounder.done:
                            break
        except NodeFailed as failure:
            self._trace.lost(failure.node)
        return finish == "stop"

    def _prompt(self) -> Prompt:
        question = self._question
        return Prompt(
            tenant=question.tenant,
            messages=build_messages(question.text, self._quotes, question.moment.as_of),
            max_tokens=question.max_tokens,
            adapter=question.adapter,
        )

    async def _release(self, pieces: Sequence[str]) -> None:
        for piece in pieces:
            await self._emit(Event("text", {"text": piece}))

    def _count(self, chunk: Chunk, began: float) -> None:
        """So far, for the model may be stopped before its end."""
        ms = round((time.perf_counter() - began) * 1000)
        self._cost = Cost(chunk.prompt_tokens, chunk.completion_tokens, engine_ms=ms)
