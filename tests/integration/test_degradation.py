"""The whole graph in process with one node after the other gone: what is still answered, and what is said about it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.advance import Readers
from pipelines.chunk import chunk
from pipelines.encode import encode, missing, wanted
from pipelines.load import load
from pipelines.parsers.pool import ParserPool
from pipelines.records import Source
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation, PassageIn
from services.catalog.state import ensure_generation
from services.catalog.vectors import VectorFiles
from services.common.errors import Overloaded, Unavailable
from services.common.moment import Moment, parse_instant
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.run import answer
from services.orchestrator.graph.search import search
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import retriever_over

EXAMPLES = Path(__file__).parents[2] / "examples"
GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)
DOCUMENTED, FACT = "How is the kilogram defined?", "What is the tallest building in the world?"


class Down:
    """A node that does not answer, whatever it is asked."""

    def __init__(self, error=Unavailable):
        self.error = error

    def __getattr__(self, name):
        async def call(*_, **__):
            raise self.error("down")

        return call

    async def generate(self, prompt):
        raise self.error("down")
        yield


def chunked(row):
    if not isinstance(row, DocumentIn):
        return row
    parts = chunk(row.text, row.title, lambda text: len(text.split()), 120)
    return replace(row, passages=tuple(PassageIn(p.ordinal, p.section, p.start, p.end, p.embedded) for p in parts))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(nodes, newest record time) over the sample corpus."""
    import asyncio

    home = tmp_path_factory.mktemp("degradation")

    async def build():
        database, files, encoder = Database(f"sqlite:///{home}/c.db"), VectorFiles(home / "v"), FakeEncoder()
        retriever = retriever_over("memory", home, wait_seconds=0.2)
        features = PointInTimeFeatures(MemoryBackend(), 0.2)
        sources = [Source(str(EXAMPLES / name), name) for name in ("history.jsonl", "facts.jsonl")]
        rows = [chunked(loaded.row) for loaded in load(sources, True, ParserPool())]
        with database.write() as tx:
            ensure_generation(tx, GENERATION)
            texts = missing(tx, wanted(rows, "local", "almanac"), GENERATION.encoder)
            vectors = await encode(encoder, GENERATION.encoder, texts.values(), 64)
            files.write("f", list(texts), vectors)
            recorder = Recorder(tx, "local", "almanac", "job")
            for row in rows:
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
            recorded = recorder.close(VectorFile("f", GENERATION.encoder, list(texts)))
        await Readers(database, files, retriever, features).advance(GENERATION, "local", "almanac", recorded)
        return Nodes(database, encoder, retriever, features, FakeGenerator("Made up entirely. [1]")), recorded

    return asyncio.run(build())


async def ask(asked, text, **down):
    nodes, recorded = asked
    events = []

    async def emit(event):
        events.append(event)

    moment = Moment(parse_instant("2020-06-01"), recorded)
    question = Question("a", "local", "almanac", text, moment, GENERATION)
    found = await answer(replace(nodes, **down), question, emit)
    assert found.answer == "".join(event.data["text"] for event in events if event.kind == "text")
    return found


async def test_with_every_node_nothing_is_degraded(asked):
    assert (await ask(asked, FACT)).answer == "Burj Khalifa"
    found = await ask(asked, DOCUMENTED)
    assert found.degraded == () and "Planck" in found.answer


@pytest.mark.parametrize("error", [Unavailable, Overloaded])
async def test_without_the_generator_the_evidence_is_quoted(asked, error):
    found = await ask(asked, DOCUMENTED, generator=Down(error))
    assert found.degraded == ("generator",) and found.grounding == "quoted"
    assert found.citations[0].quote in found.answer


async def test_without_the_encoder_words_find_passages_and_facts_in_their_very_words(asked):
    assert (await ask(asked, FACT, encoder=Down())).answer == "Burj Khalifa"
    found = await ask(asked, DOCUMENTED, encoder=Down())
    assert found.degraded == ("encoder",) and "kilogram" in found.answer


async def test_without_features_there_are_no_facts_but_passages(asked):
    found = await ask(asked, FACT, features=Down())
    assert "features" in found.degraded and found.citations
    assert {citation.kind for citation in found.citations} == {"passage"}


async def test_without_the_retriever_there_are_only_facts(asked):
    found = await ask(asked, FACT, retriever=Down())
    assert found.answer == "Burj Khalifa" and found.degraded == ("retriever",)
    with pytest.raises(Unavailable, match="retriever"):
        await ask(asked, DOCUMENTED, retriever=Down())


async def test_a_search_without_the_encoder_is_lexical_and_without_the_retriever_fails(asked):
    nodes, recorded = asked
    question = Question("a", "local", "almanac", DOCUMENTED, Moment(parse_instant("2020-06-01"), recorded), GENERATION)
    found = await search(replace(nodes, encoder=Down()), GENERATION, question.scope, DOCUMENTED, 5, {})
    assert found.degraded == ["encoder"] and found.hits and all(hit.hit.dense is None for hit in found.hits)
    with pytest.raises(Unavailable):
        await search(replace(nodes, retriever=Down()), GENERATION, question.scope, DOCUMENTED, 5, {})


async def test_the_text_of_an_earlier_attempt_is_not_told_again(asked):
    nodes, recorded = asked
    whole = (await ask(asked, DOCUMENTED)).answer
    told = []

    async def emit(event):
        told.append(event.data.get("text", "") if event.kind == "text" else "")

    moment = Moment(parse_instant("2020-06-01"), recorded)
    question = Question("a", "local", "almanac", DOCUMENTED, moment, GENERATION)
    for cut in (1, len(whole) // 2, len(whole)):
        told.clear()
        again = await answer(nodes, question, emit, whole[:cut])
        assert again.answer == whole and whole[:cut] + "".join(told) == whole


def test_the_sample_questions_have_the_form_the_demo_reads():
    for line in (EXAMPLES / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["question"] and all("as_of" in moment for moment in row["moments"])
