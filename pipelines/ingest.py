"""Ingest: load → parse → chunk → encode → commit → index, batch by batch, from wherever a job stands.

A batch and the job's cursor are one transaction, so a job that is resumed neither loses nor doubles a row.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.advance import Readers
from pipelines.chunk import CountTokens, chunk
from pipelines.encode import encode, missing, wanted
from pipelines.load import count, load
from pipelines.parsers.pool import ParserPool
from pipelines.records import Loaded, Row, Source
from services.catalog import jobs
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation, PassageIn
from services.catalog.vectors import VectorFiles
from services.common.errors import InvalidDocument
from services.common.nodes.encoder import Encoder

BATCH_ROWS = 32
BATCH_PASSAGES = 256


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What ingestion works with. `max_tokens` is the passage size, title and section path included."""

    catalog: Database
    files: VectorFiles
    encoder: Encoder
    readers: Readers
    count_tokens: CountTokens
    max_tokens: int
    parsers: ParserPool = field(default_factory=ParserPool)

    async def run(self, job: jobs.Job, generation: Generation) -> None:
        """Work a job to its end. Raises what stops it; Conflict means that it was cancelled or taken over."""
        await _Run(self, job, generation).work()

    def chunked(self, row: Row) -> Row:
        """The row with its passages."""
        if not isinstance(row, DocumentIn):
            return row
        found = chunk(row.text, row.title, self.count_tokens, self.max_tokens)
        passages = [PassageIn(one.ordinal, one.section, one.start, one.end, one.embedded) for one in found]
        return replace(row, passages=tuple(passages))


class _Run:
    """One job being worked."""

    def __init__(self, pipeline: Pipeline, job: jobs.Job, generation: Generation) -> None:
        self._pipeline, self._job, self._generation = pipeline, job, generation
        self._cursor = job.cursor
        self._counts = Counter(job.counts)
        self._failures: list[Any] = list(job.failures)
        self._sources = [Source.from_json(file) for file in job.request["files"]]
        self._history = bool(job.request.get("history"))
        self._documents: set[str] = set()

    async def work(self) -> None:
        if self._job.total is None:
            await asyncio.to_thread(self._count)
        batches = self._batches()
        while batch := await asyncio.to_thread(next, batches, None):
            recorded = await self._batch(batch)
            if recorded is not None:
                where = (self._job.tenant, self._job.collection)
                await self._pipeline.readers.advance(self._generation, *where, recorded)

    def _batches(self) -> Iterator[list[Loaded]]:
        """What is left to do, chunked, in batches that a vector file and a transaction can hold."""
        batch: list[Loaded] = []
        passages = 0
        for number, loaded in enumerate(load(self._sources, self._history, self._pipeline.parsers)):
            if isinstance(loaded.row, DocumentIn):
                self._documents.add(loaded.row.doc_id)
            if number < self._job.cursor:
                continue
            row = loaded.row and self._pipeline.chunked(loaded.row)
            batch.append(replace(loaded, row=row))
            passages += len(row.passages) if isinstance(row, DocumentIn) else 1
            if len(batch) >= BATCH_ROWS or passages >= BATCH_PASSAGES:
                yield batch
                batch, passages = [], 0
        if batch:
            yield batch

    def _count(self) -> None:
        total = count(self._sources, self._pipeline.parsers)
        with self._pipeline.catalog.write() as tx:
            jobs.set_total(tx, self._job.job_id, total)

    async def _batch(self, batch: Sequence[Loaded]) -> int | None:
        """Encode and commit a batch; its record time, None if it held nothing to record."""
        rows = [loaded.row for loaded in batch if loaded.row is not None]
        texts = await asyncio.to_thread(self._missing, rows)
        vectors = await encode(self._pipeline.encoder, self._model, texts.values(), self._generation.dimensions)
        file = VectorFile(str(uuid.uuid4()), self._model, list(texts))
        if texts:
            await asyncio.to_thread(self._pipeline.files.write, file.file_id, file.item_ids, vectors)
        return await asyncio.to_thread(self._commit, batch, file)

    @property
    def _model(self) -> str:
        return self._generation.encoder

    def _missing(self, rows: Sequence[Row]) -> dict[str, str]:
        with self._pipeline.catalog.write() as tx:
            jobs.renew(tx, self._job.job_id)
        items = wanted(rows, self._job.tenant, self._job.collection)
        with self._pipeline.catalog.read() as tx:
            return missing(tx, items, self._model)

    def _commit(self, batch: Sequence[Loaded], file: VectorFile) -> int | None:
        job = self._job
        with self._pipeline.catalog.write() as tx:
            recorder = None
            for loaded in batch:
                if loaded.row is None:
                    self._fail(loaded)
                    continue
                history_job = job.job_id if self._history else ""
                recorder = recorder or Recorder(tx, job.tenant, job.collection, history_job)
                self._record(recorder, loaded, loaded.row)
            recorded = recorder.close(file) if recorder else None
            self._counts["documents"] = len(self._documents)
            self._counts["passages"] += recorder.passages if recorder else 0
            self._counts["encoded"] += len(file.item_ids)
            self._cursor += len(batch)
            jobs.progress(tx, job.job_id, self._cursor, self._counts, self._failures)
        return recorded

    def _record(self, recorder: Recorder, loaded: Loaded, row: Row) -> None:
        document = isinstance(row, DocumentIn)
        try:
            new = recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
        except InvalidDocument as error:
            self._fail(loaded, error.detail)
            return
        self._counts["versions"] += document and new
        self._counts["facts"] += not document and new
        self._counts["skipped"] += not new

    def _fail(self, loaded: Loaded, reason: str = "") -> None:
        self._counts["failed"] += 1
        self._failures.append(loaded.failure(reason))
