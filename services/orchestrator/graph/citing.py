"""Facts and sentences as citations."""

from __future__ import annotations

from services.catalog.reading import FactAt
from services.catalog.records import Located
from services.common.moment import OPEN_START
from services.orchestrator.graph.answer import Citation
from services.orchestrator.graph.evidence import Chosen


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
