"""Ingest: load → parse → chunk → encode → commit → index, batch by batch, from wherever a job stands.

The stages run side by side, so that the encoder has work while the batch after is read and the one before is recorded.
Batches are committed in the order of their rows. A batch and the job's cursor are one transaction, so a job that is
resumed neither loses nor doubles a row.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from pipelines.advance import Readers
from pipelines.chunk import CountTokens, chunk
from pipelines.encode import CALL, EncoderLine, missing, wanted
from pipelines.load import count, load
from pipelines.parsers.pool import ParserPool
from pipelines.records import Batch, Encoded, Loaded, Prepared, Row, Source
from pipelines.stages import ahead, cause, to_its_end
from services.catalog import jobs
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database
from services.catalog.records import DocumentIn, Generation, PassageIn
from services.catalog.vectors import VectorFiles
from services.common.errors import Conflict, InvalidDocument, Unavailable
from services.common.nodes.encoder import Encoder

BATCH_ROWS = 32
BATCH_PASSAGES = 128


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
        self._line = EncoderLine(pipeline.encoder, generation.encoder, generation.dimensions)
        self._pending: set[str] = set()
        """Items that a batch ahead is having encoded."""

    async def work(self) -> None:
        if self._job.total is None:
            await to_its_end(self._count)
        try:
            async with asyncio.TaskGroup() as group:
                prepared = ahead(group, self._prepared())
                encoding = ahead(group, self._encoding(group, prepared))
                committed = ahead(group, self._committed(encoding))
                await self._index(committed)
        except BaseExceptionGroup as failed:
            raise cause(failed) from None

    async def _prepared(self) -> AsyncGenerator[Prepared, None]:
        batches = self._batches()
        while batch := await asyncio.to_thread(next, batches, None):
            yield await to_its_end(self._prepare, batch)

    async def _encoding(
        self, group: asyncio.TaskGroup, prepared: AsyncGenerator[Prepared, None]
    ) -> AsyncGenerator[asyncio.Task[Encoded], None]:
        """Batches begun: the texts of the next wait at the encoder while those of one are encoded."""
        async for batch in prepared:
            yield group.create_task(self._encode(batch))

    async def _committed(self, encoding: AsyncGenerator[asyncio.Task[Encoded], None]) -> AsyncGenerator[int, None]:
        async for batch in encoding:
            recorded = await to_its_end(self._commit, await batch)
            if recorded is not None:
                yield recorded

    async def _index(self, committed: AsyncGenerator[int, None]) -> None:
        async for recorded in committed:
            where = (self._job.tenant, self._job.collection)
            await self._pipeline.readers.advance(self._generation, *where, recorded)

    def _batches(self) -> Iterator[Batch]:
        """What is left to do, chunked, in batches that a vector file and a transaction can hold.

        The first is small, so that the encoder soon has something to do.
        """
        rows: list[Loaded] = []
        documents: set[str] = set()
        passages, most = 0, CALL
        for number, loaded in enumerate(load(self._sources, self._history, self._pipeline.parsers)):
            if isinstance(loaded.row, DocumentIn):
                documents.add(loaded.row.doc_id)
            if number < self._job.cursor:
                continue
            row = loaded.row and self._pipeline.chunked(loaded.row)
            rows.append(replace(loaded, row=row))
            passages += len(row.passages) if isinstance(row, DocumentIn) else 1
            if len(rows) >= BATCH_ROWS or passages >= most:
                yield Batch(rows, len(documents))
                rows, passages, most = [], 0, BATCH_PASSAGES
        if rows:
            yield Batch(rows, len(documents))

    def _count(self) -> None:
        total = count(self._sources, self._pipeline.parsers)
        with self._pipeline.catalog.write() as tx:
            jobs.set_total(tx, self._job.job_id, total)

    def _prepare(self, batch: Batch) -> Prepared:
        """What is to be encoded for a batch; what a batch ahead is having encoded is not asked for again."""
        with self._pipeline.catalog.write() as tx:
            jobs.renew(tx, self._job.job_id, self._job.attempts)
        rows = [loaded.row for loaded in batch.rows if loaded.row is not None]
        items = wanted(rows, self._job.tenant, self._job.collection)
        with self._pipeline.catalog.read() as tx:
            texts = missing(tx, items, self._generation.encoder)
        texts = {item: text for item, text in texts.items() if item not in self._pending}
        self._pending.update(texts)
        return Prepared(batch, list(items), texts)

    async def _encode(self, prepared: Prepared) -> Encoded:
        vectors = await self._line.encode(prepared.texts.values())
        file = VectorFile(str(uuid.uuid4()), self._generation.encoder, list(prepared.texts))
        if prepared.texts:
            await to_its_end(self._pipeline.files.write, file.file_id, file.item_ids, vectors)
        return Encoded(prepared.batch, prepared.items, file)

    def _commit(self, encoded: Encoded) -> int | None:
        """Record a batch; its record time, None if it held nothing to record."""
        job, file = self._job, encoded.file
        with self._pipeline.catalog.write() as tx:
            self._check(tx, encoded)
            recorder = None
            for loaded in encoded.batch.rows:
                if loaded.row is None:
                    self._fail(loaded)
                    continue
                history_job = job.job_id if self._history else ""
                recorder = recorder or Recorder(tx, job.tenant, job.collection, history_job)
                self._record(recorder, loaded, loaded.row)
            recorded = recorder.close(file) if recorder else None
            self._counts["documents"] = encoded.batch.documents
            self._counts["passages"] += recorder.passages if recorder else 0
            self._counts["encoded"] += len(file.item_ids)
            self._cursor += len(encoded.batch.rows)
            jobs.progress(tx, job.job_id, self._cursor, self._counts, self._failures, job.attempts)
        self._pending.difference_update(file.item_ids)
        return recorded

    def _check(self, tx: Connection, encoded: Encoded) -> None:
        """That nobody else has gone on with the job, and every vector is still there or in the file."""
        if jobs.by_id(tx, self._job.job_id).cursor != self._cursor:
            raise Conflict(f"job {self._job.job_id} was taken over by another worker")
        items = dict.fromkeys(encoded.items, "")
        lost = missing(tx, items, self._generation.encoder).keys() - set(encoded.file.item_ids)
        if lost:
            raise Unavailable(f"{len(lost)} vectors were removed while they were needed; they are encoded again")

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
        if len(self._failures) < jobs.MAX_FAILURES:
            self._failures.append(loaded.failure(reason))
