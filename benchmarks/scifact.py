"""SciFact as an index sees it: the passages of its abstracts by the real chunker, and their vectors, kept between runs.

The vectors lie in `benchmarks/out/cache`, named after the model's files and the texts: another model, manifest or
chunker encodes anew, which takes minutes.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, data_file
from pipelines.chunk import chunk
from pipelines.evaluation import read_lines
from pipelines.evaluation.retrieval import Judgements, load_judgements
from pipelines.text import token_counter
from services.common.batches import batched
from services.common.models import Model, ModelCache, ModelKind, find, load_manifest
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span
from services.common.nodes.encoder import TextKind
from services.common.nodes.retriever import Changes, Point, Target, Vectors
from services.common.nodes.scope import Scope, Stretch
from services.encoder.encoder import build
from services.encoder.settings import EncoderSettings

CACHE = ROOT / "benchmarks" / "out" / "cache"
TENANT, COLLECTION = "local", "scifact"
RECORDED = 1
"""When all of it was recorded, and so the watermark of an index that holds it."""
PASSAGE_TOKENS = 256
_APPLIED = 1024
_CALL = 512


@dataclass(frozen=True, slots=True)
class Passage:
    doc_id: str
    ordinal: int
    text: str

    @property
    def passage_id(self) -> str:
        return f"{self.doc_id}#{self.ordinal}"


@dataclass(frozen=True)
class SciFact:
    """passage_vectors, query_vectors: float32 unit rows, in the order of `passages` and of `queries`."""

    passages: Sequence[Passage]
    passage_vectors: Vectors
    queries: dict[str, str]
    query_vectors: Vectors
    judged: Judgements

    @property
    def dimensions(self) -> int:
        return int(self.passage_vectors.shape[1])

    def points(self) -> list[Point]:
        everywhere = Extent(Span(OPEN_START, OPEN_END), Span(RECORDED, OPEN_END))
        return [
            Point(one.passage_id, Target.PASSAGES, one.passage_id, one.doc_id, everywhere, one.text, {})
            for one in self.passages
        ]

    def changes(self) -> Iterator[Changes]:
        points = self.points()
        for start in range(0, len(points), _APPLIED):
            part = slice(start, start + _APPLIED)
            yield Changes(points[part], self.passage_vectors[part], ())


def scope(generation: str) -> Scope:
    return Scope(TENANT, COLLECTION, generation, Moment(RECORDED, RECORDED))


def stretch() -> Stretch:
    return Stretch(TENANT, COLLECTION, OPEN_START, RECORDED)


def load(documents: int | None = None) -> SciFact:
    """SciFact, or for a trial its first documents with the queries judged on them. Raises MissingData."""
    settings = EncoderSettings()
    model = find(load_manifest(settings.models_manifest), settings.encoder_model, ModelKind.ENCODER)
    passages = _passages(ModelCache(settings.models_dir).path(model), documents)
    held = {one.doc_id for one in passages}
    judged = {
        query: relevant
        for query, relevant in load_judgements(data_file("scifact/qrels.tsv")).items()
        if held & set(relevant)
    }
    texts = {str(row["id"]): str(row["text"]) for _, row in read_lines(data_file("scifact/queries.jsonl"))}
    queries = {query: texts[query] for query in judged}
    vectors = _vectors(settings, model, TextKind.PASSAGE, [one.text for one in passages])
    asked = _vectors(settings, model, TextKind.QUERY, list(queries.values()))
    return SciFact(passages, vectors, queries, asked, judged)


def _passages(model_dir: Path, documents: int | None) -> list[Passage]:
    count = token_counter(model_dir)
    rows = [row for _, row in read_lines(data_file("scifact/corpus.jsonl.gz"))][:documents]
    return [
        Passage(str(row["id"]), one.ordinal, one.embedded)
        for row in rows
        for one in chunk(row["text"], row["title"], count, PASSAGE_TOKENS)
    ]


def _vectors(settings: EncoderSettings, model: Model, kind: TextKind, texts: Sequence[str]) -> Vectors:
    named = hashlib.blake2b(digest_size=12)
    for part in (model.digest, kind.value, *texts):
        named.update(part.encode() + b"\0")
    file = CACHE / f"scifact-{kind.value}-{named.hexdigest()}.npy"
    if not file.is_file():
        found = asyncio.run(_encoded(settings, model.name, kind, texts))
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(aside := file.with_suffix(".new.npy"), found)
        aside.replace(file)
    vectors: Vectors = np.load(file)
    return vectors


async def _encoded(settings: EncoderSettings, model: str, kind: TextKind, texts: Sequence[str]) -> Vectors:
    """Sorted by length, so that texts in one batch are of like length."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    encoder = build(settings)
    began = time.perf_counter()
    parts = [await encoder.encode(model, kind, [texts[row] for row in rows]) for rows in batched(order, _CALL)]
    print(f"encoded {len(texts)} texts in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    encoder.close()
    vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors
