from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.graph.evidence import Passage, candidates, coverage, score, select, shortlist

TEXT = (
    "# Omonia\n\nOmonia is a football club from Nicosia. Its home field was the Makario Stadium until 1999. "
    "The club then moved to the GSP Stadium. Supporters wear green and white shirts to every match."
)
QUESTION = "Which stadium was the home field of Omonia until 1999?"


def passage(text: str = TEXT, start: int = 0, name: str = "p", doc: str = "d", value: float = 1.0) -> Passage:
    return Passage(name, doc, "Omonia", text, start, value)


def test_quotes_are_exact_substrings_of_the_versions_text() -> None:
    version = "Preface.\n\n" + TEXT
    found = candidates([passage(start=10)])
    assert len(found) == 4
    assert all(version[sentence.start : sentence.end] == sentence.quote for sentence in found)


def test_headings_are_no_evidence() -> None:
    assert not any(sentence.quote.startswith("#") for sentence in candidates([passage()]))


def test_a_sentence_shared_by_overlapping_passages_is_there_once() -> None:
    cut = TEXT.index("Its home")
    found = candidates([passage(), passage(TEXT[cut:], cut, "q")])
    assert len(found) == 4
    assert len(candidates([passage(), passage(doc="other", name="q")])) == 8


def test_word_overlap_finds_the_sentence_without_vectors() -> None:
    found, passages = candidates([passage()]), [passage()]
    picked = select(QUESTION, found, passages, score(QUESTION, found, passages))
    assert picked.answerable
    assert "Makario" in picked.chosen[0].sentence.quote
    assert [one.score for one in picked.chosen] == sorted((one.score for one in picked.chosen), reverse=True)


def test_the_cosine_decides_where_words_do_not() -> None:
    found, passages = candidates([passage()]), [passage()]
    vectors = np.eye(4, 8, dtype=np.float32)
    scores = score("Colours?", found, passages, vectors[3], vectors)
    assert int(np.argmax(scores)) == 3


def test_a_better_passage_lifts_its_sentences() -> None:
    passages = [
        passage("The tower is tall and grey.", 0, "a", "a", 0.1),
        passage("The tower is tall and old.", 0, "b", "b", 0.9),
    ]
    found = candidates(passages)
    scores = score("How tall is the tower?", found, passages)
    assert found[int(np.argmax(scores))].doc_id == "b"


def test_the_shortlist_leaves_out_what_words_find_worst_and_keeps_the_order() -> None:
    found, passages = candidates([passage()]), [passage()]
    kept = shortlist(QUESTION, found, passages, most=2)
    assert [sentence.quote.split()[0] for sentence in kept] == ["Omonia", "Its"]
    assert shortlist(QUESTION, found, passages) == found
    assert shortlist(QUESTION, [], []) == []


def test_nearly_the_same_sentence_is_chosen_once() -> None:
    passages = [passage(), passage(TEXT, 0, "copy", "copy")]
    found = candidates(passages)
    picked = select(QUESTION, found, passages, score(QUESTION, found, passages))
    quotes = [one.sentence.quote for one in picked.chosen]
    assert len(quotes) == len(set(quotes)) == 3


def test_the_budget_bounds_all_but_the_best() -> None:
    found, passages = candidates([passage()]), [passage()]
    scores = score(QUESTION, found, passages)
    assert len(select(QUESTION, found, passages, scores, budget=1).chosen) == 1
    assert len(select(QUESTION, found, passages, scores, most=2).chosen) == 2


def test_what_is_far_behind_the_best_is_evidence_but_not_quoted() -> None:
    found, passages = candidates([passage()]), [passage()]
    assert select(QUESTION, found, passages, np.array([9.0, 8.0, 5.6, 5.4])).quotes == 3
    apart = select(QUESTION, found, passages, np.array([9.0, 4.9, 4.8, 4.7]))
    assert (len(apart.chosen), apart.quotes) == (3, 1)


def test_cosine_and_coverage_together_say_whether_it_is_answerable() -> None:
    found, passages = candidates([passage()]), [passage()]
    scores = score(QUESTION, found, passages)
    assert select(QUESTION, found, passages, scores, np.full(4, 0.6)).answerable
    other = "Which river crosses the capital of Mongolia?"
    strange = score(other, found, passages)
    assert not select(other, found, passages, strange, np.full(4, 0.3)).answerable
    assert not select(other, found, passages, strange).answerable


def test_without_candidates_nothing_is_answerable() -> None:
    assert select(QUESTION, [], [], score(QUESTION, [], [])).answerable is False


def test_coverage_looks_through_inflection() -> None:
    assert coverage("Who wears green shirts?", "They wore it: a green shirt, worn by wearing men.") == 1.0
    assert coverage("Is it?", "") == 1.0


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab A.!?\n'1-", max_size=80), st.integers(0, 50))
def test_offsets_hold_for_any_text(text: str, start: int) -> None:
    version = "x" * start + text
    for sentence in candidates([passage(text, start)]):
        assert version[sentence.start : sentence.end] == sentence.quote
