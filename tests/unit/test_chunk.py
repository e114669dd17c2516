from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.chunk import Chunk, chunk
from services.common.errors import InvalidRequest
from services.common.sentences import sentences

SPECIAL = 2


def count(text: str) -> int:
    """Like a word-piece tokenizer: words in pieces of four characters, punctuation alone, two special tokens."""
    return SPECIAL + sum(-(-len(word) // 4) for word in re.findall(r"\w+|[^\w\s]", text))


def bodies(text: str, max_tokens: int, title: str = "") -> list[str]:
    return [piece.body for piece in chunk(text, title, count, max_tokens)]


def covered(chunks: list[Chunk]) -> set[int]:
    return {position for piece in chunks for position in range(piece.start, piece.end)}


MARKS = ["", "", "# One", "## Two", "### Three ###", "#### ", "```", "# not # this", "#no heading", "- item"]
WORDS = ["The", "river", "rose", "in", "1998", "U.S.", "Mr.", "ended.", "Why?"]
LINES = st.one_of(
    st.sampled_from(MARKS),
    st.text(alphabet="ab cdefg Hi.?!,\t日\u00a0\u2028#\r", max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join),
)
TITLES = st.sampled_from(["", "Title", "A title of rather many words, for a document " * 3])
TEXTS = st.lists(LINES, max_size=14).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TITLES, st.integers(8, 60), st.integers(0, 20))
def test_passages_are_slices_in_order_within_the_limit_that_cover_the_text(
    text: str, title: str, max_tokens: int, overlap: int
) -> None:
    chunks = chunk(text, title, count, max_tokens, overlap)
    for number, piece in enumerate(chunks):
        assert piece.ordinal == number
        assert text[piece.start : piece.end] == piece.body == piece.body.strip() != ""
        assert count(piece.embedded) <= max_tokens
        assert piece.embedded.endswith(piece.body)
    for before, after in pairwise(chunks):
        assert before.start < after.start
        assert before.end < after.end
        assert overlap or before.end <= after.start
    missed = [i for i, c in enumerate(text) if not c.isspace() and i not in covered(chunks)]
    lines = {text.rfind("\n", 0, i) + 1 for i in missed}
    assert all(re.match(r" {0,3}#{1,6}\s", text[start:] + " ") for start in lines)


def test_a_text_that_fits_is_one_passage() -> None:
    assert bodies("One.\n\nTwo.\n", 20) == ["One.\n\nTwo."]


def test_passages_start_anew_at_every_heading_and_keep_its_path() -> None:
    text = "Lead.\n# History\nOld.\n## Early life\nBorn.\n### Deep\nEnd.\n## Later ##\nDied.\n# Works\nNone."
    found = [(piece.section, piece.body) for piece in chunk(text, "T", count, 60)]
    assert found == [
        ((), "Lead."),
        (("History",), "Old."),
        (("History", "Early life"), "Born."),
        (("History", "Early life", "Deep"), "End."),
        (("History", "Later"), "Died."),
        (("Works",), "None."),
    ]


def test_what_is_embedded_is_title_then_section_path_then_body() -> None:
    (piece,) = chunk("# A\n## B\nBody.", "Title", count, 60)
    assert piece.embedded == "Title\nA > B\nBody."


def test_a_first_heading_that_repeats_the_title_is_embedded_once() -> None:
    (piece,) = chunk("# Title\n## B\nBody.", "Title", count, 60)
    assert (piece.section, piece.embedded) == (("Title", "B"), "Title\nB\nBody.")


def test_a_hash_in_a_code_fence_is_no_heading() -> None:
    text = "Run:\n```sh\n# install\nmake\n```\nDone.\n~~~\n# b\n~~~"
    assert bodies(text, 60) == [text]


def test_a_hash_without_a_blank_is_no_heading() -> None:
    assert bodies("#hashtag here", 60) == ["#hashtag here"]


def test_whole_paragraphs_are_packed_first() -> None:
    text = "aaaa bbbb cccc.\n\ndddd eeee ffff.\n\ngggg hhhh iiii.\n\njjjj kkkk llll.\n\nmmmm nnnn."
    assert bodies(text, SPECIAL + 8) == [
        "aaaa bbbb cccc.\n\ndddd eeee ffff.",
        "gggg hhhh iiii.",
        "jjjj kkkk llll.\n\nmmmm nnnn.",
    ]


def test_the_last_two_passages_share_evenly() -> None:
    text = "Aaaa bb. Cccc dd. Eeee ff. Gggg hh. Iiii jj. Kkkk ll."
    assert bodies(text, SPECIAL + 15) == ["Aaaa bb. Cccc dd. Eeee ff.", "Gggg hh. Iiii jj. Kkkk ll."]


def test_an_edit_at_the_end_leaves_the_first_passages_as_they_were() -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(60))
    before, after = bodies(text, 40), bodies(f"{text} One more sentence came.", 40)
    assert before[:-2] == after[: len(before) - 2]


def test_a_long_sentence_is_cut_between_words_and_a_long_word_within() -> None:
    assert bodies("aaaa bbbb cccc dddd eeee", SPECIAL + 2) == ["aaaa bbbb", "cccc dddd", "eeee"]
    assert bodies("aaaabbbbcc dd", SPECIAL + 2) == ["aaaabbbb", "cc dd"]


def test_overlap_repeats_whole_sentences_of_the_passage_before() -> None:
    text = "Aaaa bb. Cccc dd. Eeee ff. Gggg hh. Iiii jj. Kkkk ll. Mmmm nn."
    found = [piece.body for piece in chunk(text, "", count, SPECIAL + 9, overlap=3)]
    assert found[0] == "Aaaa bb. Cccc dd. Eeee ff."
    assert all(after.startswith(before.split(". ")[-1]) for before, after in pairwise(found))


def test_a_title_longer_than_half_the_window_is_cut_short() -> None:
    (piece,) = chunk("Body.", "word " * 50, count, 20)
    assert count(piece.embedded) <= 20 and piece.embedded.endswith("word\nBody.")


def test_no_room_for_a_single_character_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="no room"):
        chunk("Body.", "", count, SPECIAL)


def test_an_empty_text_and_one_of_headings_have_no_passages() -> None:
    assert bodies(" \n\n", 20) == bodies("# Only\n## Headings", 20) == []


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Mr. Smith of the U.S. Army paid $3.5 million.", "He left at 5 p.m. on Jan. 5."],
        ["No. 7 won, e.g. in Paris, i.e. at home.", "Was it so?", "Yes!"],
        ["J. R. R. Tolkien wrote it.", "Dr. E. H. Gushing bought it from Apple Inc. in 1999."],
        ["He moved to the U.S.", "The war ended.", "He met George V.", "They spoke."],
        [
            "Newton D . Baker lived in Washington , D.C. .",
            "Built in 1794 , it was home of Newton D . Baker .",
        ],
        [
            "When John F . Kennedy died , Dr . E . H . Gushing paid Mr . and Mrs . Woodward .",
            "They sold it .",
        ],
        ["He moved to the U . S .", "He then died ."],
        ['"Is it?" she asked.', '"Yes."', "She left (quickly.)", "Then...", "Nothing."],
        ["See Fig. 3 and pp. 12.", "Smith et al. showed it.", "2. B won."],
        ["日本語です。", "次の文。"],
        ["No end"],
    ],
)
def test_sentences(expected: list[str]) -> None:
    assert split(" ".join(expected)) == expected


def test_headings_list_items_and_blank_lines_end_a_sentence() -> None:
    text = "# A heading\nOne line\nwrapped. Two\n- item\n1. First thing. More\n\nLast"
    assert split(text) == ["# A heading", "One line\nwrapped.", "Two", "- item", "1. First thing.", "More", "Last"]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_sentences_are_in_order_trimmed_and_cover_all_but_white_space(text: str) -> None:
    spans = sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    inside = {i for start, end in spans for i in range(start, end)}
    assert all(c.isspace() or i in inside for i, c in enumerate(text))


@pytest.mark.parametrize(
    "text", ["x" * 400_000, "aB3/" * 100_000, "# " + "# " * 200_000, "word " * 80_000, "港" * 400_000]
)
def test_text_that_is_no_prose_is_divided_in_a_time_that_grows_with_its_length(text):
    counted = 0

    def count(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return 2 + len(part) // 4

    assert len(chunk(text, "", count, 256)) > 100
    assert counted < 40 * len(text)
