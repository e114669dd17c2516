"""The evidence step: the sentences among the passages found that answer the question, as citations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.nodes.encoder import TextKind, Vectors
from services.orchestrator.graph.answer import Citation, Question
from services.orchestrator.graph.citing import cite_sentence
from services.orchestrator.graph.evidence import MOST_PASSAGES, Passage, Sentence, candidates, score, select, shortlist
from services.orchestrator.graph.executor import calling
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.search import SearchHit, Vector


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sentences, best first, whether they are likely to hold an answer at all, and how many of them may be quoted."""

    citations: tuple[Citation, ...]
    answerable: bool
    quotes: int = 1


async def find_evidence(nodes: Nodes, question: Question, hits: Sequence[SearchHit], vector: Vector | None) -> Evidence:
    """Choose the sentences by meaning and by words; by words alone without a vector."""
    passages = [_passage(hit) for hit in hits[:MOST_PASSAGES]]
    found = shortlist(question.text, candidates(passages), passages)
    vectors = await _encode(nodes, question, found) if vector is not None and found else None
    scores = score(question.text, found, passages, vector, vectors)
    cosines = vectors @ vector if vector is not None and vectors is not None else None
    selection = select(question.text, found, passages, scores, cosines)
    located = {hit.located.passage_id: hit.located for hit in hits}
    citations = tuple(
        cite_sentence(n, chosen, located[chosen.sentence.passage_id])
        for n, chosen in enumerate(selection.chosen, start=1)
    )
    return Evidence(citations, selection.answerable, selection.quotes)


async def _encode(nodes: Nodes, question: Question, found: Sequence[Sentence]) -> Vectors:
    with calling("encoder"):
        texts = [sentence.quote for sentence in found]
        return await nodes.encoder.encode(question.generation.encoder, TextKind.PASSAGE, texts)


def _passage(hit: SearchHit) -> Passage:
    located = hit.located
    return Passage(located.passage_id, located.doc_id, located.title, located.text, located.start, hit.hit.score)
