"""The moment that a question's own words name, taken where something valid then answers it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.common.rpc.deadlines import deadline
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.evidence import MOST_PASSAGES
from services.orchestrator.graph.facts import find_fact
from services.orchestrator.graph.finding import find_evidence
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.search import find_passages, query_vector
from services.orchestrator.graph.timing import proposed

SECONDS = 3.0
"""How long a moment is looked for; then the question is asked as it was."""


async def at_its_words(nodes: Nodes, question: Question) -> Question:
    """The question at the moment its words name, if a fact or a dated document answers it there; else unchanged.

    Undated documents are visible at every moment: where the best evidence is one, nothing is gained by another moment.
    """
    proposal = await asyncio.to_thread(proposed, question.text, question.moment.as_of)
    if proposal is None:
        return question
    try:
        with deadline(SECONDS):
            async with asyncio.timeout(SECONDS):
                for as_of in proposal.instants:
                    then = replace(question, moment=replace(question.moment, as_of=as_of), phrase=proposal.phrase)
                    if await _answered(nodes, then):
                        return then
    except (NodeFailed, TimeoutError):
        pass
    return question


async def _answered(nodes: Nodes, question: Question) -> bool:
    vector = await query_vector(nodes, question.generation, question.text)
    if await find_fact(nodes, question, vector) is not None:
        return True
    found = await find_passages(
        nodes, question.scope, question.text, vector, MOST_PASSAGES, question.filters, question.exact
    )
    if not any(hit.located.dated for hit in found.hits):
        return False
    evidence = await find_evidence(nodes, question, found.hits, vector)
    return evidence.answerable and evidence.citations[0].dated
