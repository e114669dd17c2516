"""The facts step over a catalog: which phrasings it accepts, and when it compares questions without their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.records import FactIn, Generation
from services.common.errors import MomentViolation
from services.common.moment import Extent, Moment, Span, now
from services.common.nodes.features import FeatureRow
from services.common.nodes.retriever import Found, Hit
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.facts import find_fact

FACT = FactIn("Where was Josep Rull detained?", "Estremera", phrasings=("Which prison held Josep Rull?",))
KEY = FACT.question_key("t", "c")
[PHRASING] = FACT.phrased("t", "c")
VECTOR = np.ones(2, np.float32)


@dataclass
class Stub:
    """An encoder to which any two texts are `alike`, a retriever that finds `near`, and the catalog's one fact."""

    catalog: Database
    near: Sequence[tuple[str, float]]
    alike: float = 0.0
    encoded: list[str] = field(default_factory=list)

    async def encode(self, model: str, kind: object, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        other = (self.alike, (1 - self.alike**2) ** 0.5)
        return np.array([(1.0, 0.0), other] * (len(texts) // 2), np.float32)

    async def search(self, query: object) -> Found:
        always = Extent(Span(), Span())
        return Found([Hit(item, "", cosine, cosine, None, always) for item, cosine in self.near])

    async def read(self, scope: object, view: str, entities: Sequence[str]) -> list[FeatureRow]:
        assert entities == [KEY]
        return [FeatureRow(KEY, True, values={"fact_id": FACT.fact_id("t", "c")})]

    @property
    def nodes(self) -> Any:
        return SimpleNamespace(catalog=self.catalog, encoder=self, retriever=self, features=self)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield database
    database.close()


def recorded(catalog: Database, fact: FactIn) -> int:
    with catalog.write() as tx:
        recorder = Recorder(tx, "t", "c")
        recorder.fact(fact)
        return recorder.close()


async def answer(stub: Stub, text: str, known_at: int) -> str | None:
    question = Question("a", "t", "c", text, Moment(now(), known_at), Generation("g1", "test", 2))
    fact = await find_fact(stub.nodes, question, VECTOR)
    return fact.answer if fact else None


async def test_a_phrasing_gives_the_answer_of_its_question(catalog: Database) -> None:
    known = recorded(catalog, FACT)
    stub = Stub(catalog, [(PHRASING, 0.9), (KEY, 0.4)])
    assert await answer(stub, "which prison held Josep Rull", known) == "Estremera"
    assert stub.encoded == [], "the words are the same"


async def test_other_words_are_compared_without_the_name(catalog: Database) -> None:
    known = recorded(catalog, FACT)
    for alike, told in ((0.8, "Estremera"), (0.6, None)):
        stub = Stub(catalog, [(KEY, 0.95)], alike)
        assert await answer(stub, "Where was Josep Rull imprisoned?", known) == told
        assert stub.encoded == ["Where was imprisoned", "Where was detained"]


async def test_a_question_about_somebody_else_costs_no_call_of_the_encoder(catalog: Database) -> None:
    known = recorded(catalog, FACT)
    stub = Stub(catalog, [(KEY, 0.95), (PHRASING, 0.9)], 1.0)
    assert await answer(stub, "Where was Mike Lee detained?", known) is None
    assert stub.encoded == []


async def test_a_phrasing_that_was_not_yet_on_record_is_a_violation_of_the_moment(catalog: Database) -> None:
    before = recorded(catalog, replace(FACT, phrasings=()))
    recorded(catalog, FACT)
    with pytest.raises(MomentViolation, match="not on record"):
        await answer(Stub(catalog, [(PHRASING, 0.9)]), "Which prison held Josep Rull?", before)
