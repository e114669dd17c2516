"""The sample corpus, recorded and indexed in process, with every node over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from services.features.backends.memory import MemoryBackend
from services.features.features import PointInTimeFeatures
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.encoder import FakeEncoder
from tests.fakes.generator import FakeGenerator
from tests.fakes.retriever import retriever_over

EXAMPLES = Path(__file__).parents[2] / "examples"
GENERATION = Generation("g1", "all-MiniLM-L6-v2", 64)
DOCUMENTED, FACT = "How is the kilogram defined?", "What is the tallest building in the world?"
"""Questions that a document answers, and a fact."""


def chunked(row):
    if not isinstance(row, DocumentIn):
        return row
    parts = chunk(row.text, row.title, lambda text: len(text.split()), 120)
    return replace(row, passages=tuple(PassageIn(p.ordinal, p.section, p.start, p.end, p.embedded) for p in parts))


async def sample(home: Path) -> tuple[Nodes, int]:
    """The nodes, and the newest record time."""
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
