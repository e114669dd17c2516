from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.graph.grounding import ABSTENTION, Evidence, Grounder
from services.orchestrator.graph.support import Statement, supports

FIRST = Evidence(1, "Omonia moved from the Makario Stadium to the GSP Stadium in 1999.", "Omonia Nicosia")
SECOND = Evidence(2, "Supporters of the club wear green shirts [3] and sing.", "Omonia Nicosia")
EVIDENCE = [FIRST, SECOND]


def ground(
    text: str, evidence: list[Evidence] = EVIDENCE, truncated: bool = False, most: int = 3
) -> tuple[str, Grounder]:
    grounder = Grounder(evidence, most)
    shown = "".join(grounder.feed(text) + grounder.finish(truncated))
    assert shown == grounder.text
    return shown, grounder


def test_a_supported_sentence_is_released_with_its_number() -> None:
    shown, grounder = ground("Omonia moved to the GSP Stadium in 1999. [1]")
    assert shown == "Omonia moved to the GSP Stadium in 1999. [1]"
    assert (grounder.grounding, grounder.used) == ("generated", [1])


def test_a_number_is_added_or_corrected() -> None:
    assert ground("Supporters wear green shirts.")[0] == "Supporters wear green shirts. [2]"
    assert ground("Supporters wear green shirts [1].")[0] == "Supporters wear green shirts. [2]"
    assert ground("Supporters wear green shirts [7].")[0] == "Supporters wear green shirts. [2]"


def test_a_sentence_may_rest_on_all_it_cites_together() -> None:
    shown, grounder = ground("Omonia moved to the GSP Stadium and supporters wear green shirts [1][2].")
    assert shown.endswith(" [1, 2]")
    assert grounder.used == [1, 2]


def test_uncited_a_sentence_rests_on_one_quote_alone() -> None:
    assert ground("Omonia moved to the GSP Stadium and supporters wear green shirts.")[0] == FIRST.quoted


@pytest.mark.parametrize(
    "made_up",
    [
        "Omonia moved to the GSP Stadium in 1998.",
        "Omonia moved to the GSP Stadium in the 1999s.",
        "Apoel moved to the GSP Stadium in 1999.",
        "Omonia burned the GSP Stadium in 1999.",
        "Omonia never moved to the GSP Stadium.",
        "The GSP Stadium moved from Omonia to Makario.",
        "Yes.",
        "I do not know.",
    ],
)
def test_what_is_made_up_is_replaced_by_the_best_quote(made_up: str) -> None:
    shown, grounder = ground(made_up)
    assert shown == FIRST.quoted
    assert (grounder.grounding, grounder.used) == ("quoted", [1])


def test_only_one_quote_replaces_and_later_inventions_are_dropped() -> None:
    shown, _ = ground("Apoel won in 1901. It lost in 1902. Supporters wear green shirts. Kim won in 1903.")
    assert shown == f"{FIRST.quoted} Supporters wear green shirts. [2]"


def test_the_quote_comes_with_the_first_word_that_no_evidence_has() -> None:
    grounder = Grounder(EVIDENCE)
    assert grounder.feed("Omonia moved to the GSP [1, 2") == []
    assert "".join(grounder.feed("] Arena in")) == FIRST.quoted
    assert "".join(grounder.feed(" 1999. Supporters sing. ") + grounder.finish()) == " Supporters sing. [2]"


def test_more_quotes_stand_in_where_nothing_was_generated() -> None:
    grounder = Grounder(EVIDENCE, quotes=2)
    assert "".join(grounder.feed("Apoel won in 1901.") + grounder.finish()) == f"{FIRST.quoted} {SECOND.quoted}"
    grounder = Grounder(EVIDENCE, quotes=2)
    assert "".join(grounder.feed("Supporters sing.") + grounder.finish()) == "Supporters sing. [2]"


def test_quotes_follow_a_quote_but_not_what_was_generated() -> None:
    third = Evidence(3, "The club is old.")
    grounder = Grounder([*EVIDENCE, third], quotes=3)
    shown = "".join(grounder.feed("Apoel won. Supporters sing.") + grounder.finish())
    assert shown == f"{FIRST.quoted} Supporters sing. [2] {third.quoted}"


def test_quotes_stand_in_only_as_far_as_they_fit() -> None:
    long = Evidence(2, " ".join(["Supporters sing"] * 30), "Omonia Nicosia")
    third = Evidence(3, "The club is old.", "Omonia Nicosia")
    assert "".join(Grounder([FIRST, long, third], quotes=3).finish()) == f"{FIRST.quoted} {third.quoted}"
    assert "".join(Grounder([long, FIRST], quotes=2).finish()) == long.quoted


def test_a_generated_sentence_that_does_not_fit_is_left_out() -> None:
    long = Evidence(1, "Omonia moved " + "and moved " * 28 + "in 1999.", "Omonia")
    grounder = Grounder([long, SECOND])
    shown = "".join(grounder.feed("Apoel won in 1901. Supporters wear green shirts. ") + grounder.finish())
    assert shown == long.quoted


def test_what_only_repeats_the_question_is_no_answer() -> None:
    grounder = Grounder(EVIDENCE, question="When has Omonia moved to the GSP Stadium?")
    text = "Omonia moved to the GSP Stadium. "
    assert "".join(grounder.feed(text) + grounder.finish()) == FIRST.quoted
    grounder = Grounder(EVIDENCE, question="When has Omonia moved to the GSP Stadium?")
    assert "".join(grounder.feed("Omonia moved in 1999. ") + grounder.finish()) == "Omonia moved in 1999. [1]"


def test_a_sentence_that_adds_nothing_is_left_out() -> None:
    text = "Omonia moved to the GSP Stadium in 1999. Omonia moved in 1999. Supporters sing."
    assert ground(text)[0] == "Omonia moved to the GSP Stadium in 1999. [1] Supporters sing. [2]"


def test_nothing_comes_out_before_the_sentence_is_whole() -> None:
    grounder = Grounder(EVIDENCE)
    assert grounder.feed("Omonia moved to the GSP Stadium in 1999.") == []
    assert grounder.feed(" [1]") == []
    assert grounder.feed(" It ") == ["Omonia moved to the", " GSP Stadium in 1999.", " [1]"]


def test_at_most_so_many_sentences() -> None:
    shown, grounder = ground("Omonia moved in 1999. Supporters sing. Supporters wear shirts.", most=2)
    assert shown == "Omonia moved in 1999. [1] Supporters sing. [2]"
    assert grounder.done


def test_a_sentence_cut_off_is_not_released() -> None:
    assert ground("Supporters sing. Omonia moved from", truncated=True)[0] == "Supporters sing. [2]"
    assert ground("Supporters sing", truncated=False)[0] == "Supporters sing [2]"
    assert ground("Omonia moved to the", truncated=True)[0] == FIRST.quoted


def test_without_evidence_it_abstains() -> None:
    shown, grounder = ground("Omonia moved in 1999.", [])
    assert (shown, grounder.grounding, grounder.used) == (ABSTENTION, "abstained", [])


def test_it_abstains_when_told_to() -> None:
    grounder = Grounder(EVIDENCE)
    assert "".join(grounder.abstain()) == ABSTENTION
    assert grounder.grounding == "abstained"


def test_a_title_supports_nothing() -> None:
    assert ground("In Nicosia supporters wear green shirts.")[0] == FIRST.quoted


def test_a_resumed_answer_completes_the_sentence_another_attempt_began() -> None:
    grounder = Grounder(EVIDENCE)
    grounder.resume("Supporters sing. [2] Omonia mov")
    rest = grounder.feed("Supporters sing. Omonia moved in 1999.") + grounder.finish()
    assert "".join(rest) == "ed in 1999. [1]"


def test_a_resumed_answer_completes_a_quote_by_itself() -> None:
    grounder = Grounder(EVIDENCE)
    grounder.resume(FIRST.quoted[:30])
    assert (
        "".join(grounder.feed("Supporters sing. ") + grounder.finish()) == FIRST.quoted[30:] + " Supporters sing. [2]"
    )


def test_a_resumed_answer_never_takes_back_what_it_cannot_complete() -> None:
    grounder = Grounder(EVIDENCE)
    grounder.resume("Supporters we")
    rest = "".join(grounder.feed("Omonia moved in 1999.") + grounder.finish())
    assert rest == "… Omonia moved in 1999. [1]"
    assert grounder.text == "Supporters we" + rest


def test_a_finished_answer_resumed_says_nothing_more() -> None:
    for whole in ("Omonia moved in 1999. [1]", FIRST.quoted, ABSTENTION):
        grounder = Grounder([] if whole == ABSTENTION else EVIDENCE)
        grounder.resume(whole)
        assert grounder.feed("Omonia moved in 1999.") + grounder.finish() == []


WORDS = "Omonia moved from the Makario Stadium to GSP in 1999 1998 Supporters wear green shirts not Apoel".split()  # noqa: SIM905
sentence = st.builds(
    lambda words, mark, end: " ".join(words) + mark + end,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=7),
    st.sampled_from(["", " [1]", " [2]", "[1][2]", " [9]"]),
    st.sampled_from([". ", "! ", ". [1] ", ".\n\n", " ", "? ", ".\n- "]),
)
texts = st.lists(sentence, max_size=6).map("".join)


@settings(max_examples=150, deadline=None)
@given(texts, st.lists(st.integers(1, 9), max_size=60))
def test_any_cutting_gives_the_same_text(text: str, sizes: list[int]) -> None:
    grounder, pieces, place = Grounder(EVIDENCE), [], 0
    for size in sizes:
        pieces += grounder.feed(text[place : place + size])
        place += size
    pieces += grounder.feed(text[place:]) + grounder.finish()
    assert "".join(pieces) == ground(text)[0]


@settings(max_examples=150, deadline=None)
@given(texts)
def test_every_sentence_shown_is_supported_or_a_quote(text: str) -> None:
    shown, _ = ground(text)
    for item in EVIDENCE:
        shown = shown.replace(item.quoted, "")
    for said, numbers in re.findall(r"(.+?) \[([\d, ]+)\]", shown, re.DOTALL):
        cited = [item for item in EVIDENCE if str(item.n) in numbers]
        together = Statement.of(" ".join(item.quote for item in cited))
        assert supports(together, Statement.of(said))


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(0, 200), st.integers(1, 2), st.sampled_from(["", "Who moved to GSP in 1999?"]))
def test_the_same_text_resumed_anywhere_ends_the_same(text: str, cut: int, quotes: int, question: str) -> None:
    straight = Grounder(EVIDENCE, quotes=quotes, question=question)
    shown = "".join(straight.feed(text) + straight.finish())
    grounder = Grounder(EVIDENCE, quotes=quotes, question=question)
    grounder.resume(shown[:cut])
    assert shown[:cut] + "".join(grounder.feed(text) + grounder.finish()) == shown
    assert (grounder.grounding, grounder.used) == (straight.grounding, straight.used)
