"""Facts and sentences as citations, and what an answer rests on as ids and hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.catalog.reading import FactAt
from services.catalog.records import Located
from services.common.moment import OPEN_START
from services.orchestrator.graph.answer import Basis, Citation, Cited, Considered
from services.orchestrator.graph.evidence import Chosen
from services.orchestrator.graph.search import SearchHit


def cite_fact(fact: FactAt) -> Citation:
    """A fact with its canonical question as the title and its answer as the quote."""
    return Citation(
        n=1,
        kind="fact",
        doc_id="",
        version_id=fact.fact_id,
        passage_id=fact.question_key,
        title=fact.question,
        uri=fact.source,
        quote=fact.answer,
        start=0,
        end=len(fact.answer),
        valid_from=fact.extent.valid.start,
        valid_to=fact.extent.valid.end,
        recorded_from=fact.extent.recorded.start,
        score=1.0,
        dated=fact.extent.valid.start != OPEN_START,
    )


def cite_sentence(n: int, chosen: Chosen, located: Located) -> Citation:
    """A sentence with the version it stands in."""
    return Citation(
        n=n,
        kind="passage",
        doc_id=located.doc_id,
        version_id=located.version_id,
        passage_id=located.passage_id,
        title=located.title,
        uri=located.uri,
        quote=chosen.sentence.quote,
        start=chosen.sentence.start,
        end=chosen.sentence.end,
        valid_from=located.extent.valid.start,
        valid_to=located.extent.valid.end,
        recorded_from=located.extent.recorded.start,
        score=chosen.score,
        dated=located.dated,
        page=located.page(chosen.sentence.start),
        section=located.section,
    )


def basis(hits: Sequence[SearchHit], citations: Sequence[Citation], prompt_sha256: str) -> Basis:
    """What an answer rests on: the passages that evidence was chosen from, in order, and what it cites."""
    facts = [citation.version_id for citation in citations if citation.kind == "fact"]
    return Basis(
        passages=tuple(_considered(hit) for hit in hits),
        fact_id=facts[0] if facts else "",
        evidence=tuple(
            Cited(one.version_id if one.kind == "fact" else one.passage_id, _sha256(one.quote)) for one in citations
        ),
        prompt_sha256=prompt_sha256,
    )


def _considered(hit: SearchHit) -> Considered:
    values = {feature.name: feature.value for feature in hit.features}
    return Considered(hit.located.passage_id, hit.located.doc_id, _sha256(hit.located.text), values)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
