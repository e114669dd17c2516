"""Phrasings of a fact's question on their way in."""

from __future__ import annotations

import json

import pytest

from pipelines.encode import wanted
from pipelines.parse import MAX_PHRASINGS, parse_cells, parse_row
from services.catalog.records import FactIn
from services.common.errors import InvalidDocument

ROW = {"question": "Who led it?", "answer": "Ada"}


def test_each_is_kept_once_and_the_question_itself_is_none() -> None:
    row = parse_row({**ROW, "phrasings": ["Led by whom?", " Led by whom? ", "Who led it?", "Who ran it?"]})
    assert isinstance(row, FactIn) and row.phrasings == ("Led by whom?", "Who ran it?")
    cell = parse_cells({**ROW, "phrasings": json.dumps(["Who ran it?"])})
    assert isinstance(cell, FactIn) and cell.phrasings == ("Who ran it?",)


@pytest.mark.parametrize("given", ["Who ran it?", [1], [" "], ["x" * 4_097], ["a\x00"], [str(n) for n in range(65)]])
def test_what_is_no_list_of_short_texts_is_refused(given: object) -> None:
    assert MAX_PHRASINGS == 64
    with pytest.raises(InvalidDocument, match="phrasings"):
        parse_row({**ROW, "phrasings": given})


def test_all_of_them_are_embedded_under_keys_of_their_own() -> None:
    row = FactIn("Who led it?", "Ada", phrasings=("Led by whom?", "Who ran it?"))
    items = wanted([row, FactIn("Who led it?", "Bob")], "t", "c")
    assert sorted(items.values()) == ["Led by whom?", "Who led it?", "Who ran it?"]
    assert items[row.question_key("t", "c")] == "Who led it?"
    assert not set(row.phrased("t", "c")) & set(row.phrased("t", "other"))
