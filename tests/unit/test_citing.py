"""A citation says where it stands."""

import pytest

from services.catalog.records import Located
from services.common.moment import OPEN_END, Extent, Span
from services.orchestrator.graph.citing import cite_sentence
from services.orchestrator.graph.evidence import Chosen, Sentence

EXTENT = Extent(Span(0, OPEN_END), Span(0, OPEN_END))


def located(pages):
    return Located("p", "v", "doc", "Title", "", ("Part", "Chapter"), 0, 100, "x" * 100, EXTENT, True, pages)


@pytest.mark.parametrize(("start", "page"), [(0, 1), (39, 1), (40, 3), (99, 3)])
def test_a_sentence_is_cited_with_the_page_it_begins_on_and_its_section(start, page):
    chosen = Chosen(Sentence("p", "doc", "Title", "x", start, start + 1), 1.0)
    cited = cite_sentence(1, chosen, located((0, 40, 40))).to_json()
    assert (cited["page"], cited["section"]) == (page, ["Part", "Chapter"])


def test_what_has_no_pages_is_cited_without():
    assert located(()).page(50) is None
