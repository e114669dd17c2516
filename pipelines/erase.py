"""Erase: a document's text, vectors, features, answers and uploads, step by step, each of them safe to repeat.

The catalog's rows go first, in one transaction: from then on nobody can be shown the document, at no moment.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from pipelines.advance import Readers
from pipelines.rebuild import beside
from services.catalog import erasing, events, jobs
from services.catalog.engine import Database
from services.catalog.erasing import Erasure
from services.catalog.purging import purge
from services.catalog.records import Generation
from services.catalog.state import all_generations, known_collections
from services.catalog.vectors import VectorFiles
from services.common.nodes.features import DOCUMENTS, Features
from services.common.nodes.retriever import Retriever
from services.common.nodes.usage import USAGE

ForgetAnswers = Callable[[Sequence[str]], Awaitable[None]]
"""Drops what is kept of answers outside the catalog, by their ids."""

LOG = "erasures.jsonl"
"""Tombstones, under the home: whatever is restored from a backup is erased again by them."""
_ANSWERS, _EVENTS = 200, 2_000
_ORPHAN_SECONDS = 60.0
"""A vector file not named for so long is one that nobody is about to commit."""


@dataclass(frozen=True, slots=True)
class Eraser:
    """What an erasure works with."""

    catalog: Database
    files: VectorFiles
    readers: Readers
    retriever: Retriever
    features: Features
    forget_answers: ForgetAnswers
    log: Path

    async def run(self, job: jobs.Job, generation: Generation) -> None:
        """Do every step that is not done yet. Raises what stops it; what was done stays done."""
        steps = self._steps(generation)
        names = list(steps)
        state = (await self.catalog.reading(lambda tx: erasing.get(tx, job.job_id))).state
        if state == erasing.DONE:
            return
        done = names.index(state) + 1 if state in names else 0
        await self.catalog.writing(lambda tx: jobs.set_total(tx, job.job_id, len(names)))
        for number in range(done, len(names)):
            erasure = await self.catalog.reading(lambda tx: erasing.get(tx, job.job_id))
            await steps[names[number]](erasure)
            last = number == len(names) - 1
            await self._note(job, number + 1, erasing.DONE if last else names[number])

    def _steps(self, generation: Generation) -> dict[str, Callable[[Erasure], Awaitable[None]]]:
        async def advance(erasure: Erasure) -> None:
            await self._advance(generation, erasure)

        return {
            "tombstone": self._tombstone,
            "advanced": advance,
            "catalog": self._catalog,
            "answers": self._answers,
            "events": self._events,
            "index": self._index,
            "vectors": self._vectors,
            "features": self._features,
            "uploads": self._uploads,
            "database": self._database,
        }

    async def _tombstone(self, erasure: Erasure) -> None:
        await asyncio.to_thread(append_tombstone, self.log, erasure)

    async def _advance(self, generation: Generation, erasure: Erasure) -> None:
        """Bring every reader past all that is on record of the document, so that none is sent it later on.

        Generations beside the live one may be far behind: there it is enough that whatever is being sent has arrived,
        for what is sent from now on leaves the document out.
        """
        known = await self.catalog.reading(known_collections)
        [to] = [to for tenant, name, to in known if (tenant, name) == (erasure.tenant, erasure.collection)]
        await self.readers.advance(generation, erasure.tenant, erasure.collection, to)
        for other in await self.catalog.reading(all_generations):
            if other.name != generation.name:
                await self.readers.settle(other, erasure.tenant, erasure.collection)

    async def _catalog(self, erasure: Erasure) -> None:
        await self.catalog.writing(lambda tx: erasing.delete_document(tx, erasure))

    async def _answers(self, erasure: Erasure) -> None:
        """Those under way since before the catalog's step may have seen the document."""
        after, more = "", True
        while more:
            emptied, after = await self.catalog.writing(partial(self._scrub, erasure, after))
            await self.forget_answers(emptied)
            more = bool(after)

    @staticmethod
    def _scrub(erasure: Erasure, after: str, tx: Connection) -> tuple[list[str], str]:
        return erasing.scrub_answers(tx, erasure, erasure.updated_at, after, _ANSWERS)

    async def _events(self, erasure: Erasure) -> None:
        """After the answers, for no answer that is under way may log the document any more."""
        after = await self.catalog.writing(partial(self._scrub_events, erasure, ""))
        while after:
            after = await self.catalog.writing(partial(self._scrub_events, erasure, after))

    @staticmethod
    def _scrub_events(erasure: Erasure, after: str, tx: Connection) -> str:
        return events.scrub(tx, erasure, after, _EVENTS)

    async def _index(self, erasure: Erasure) -> None:
        for generation in await self.catalog.reading(all_generations):
            await self.retriever.drop(beside(generation))
            await self.retriever.erase(generation.name, erasure.tenant, erasure.collection, erasure.doc_id)

    async def _vectors(self, erasure: Erasure) -> None:
        doomed = await self.catalog.reading(lambda tx: erasing.doomed_files(tx, erasure))
        for file_id, items in doomed.items():
            await asyncio.to_thread(self._rewrite, file_id, items)
        mine = await self.catalog.reading(lambda tx: erasing.passage_ids(tx, erasure))
        await asyncio.to_thread(self._remove_orphans, mine)
        await self.catalog.writing(lambda tx: erasing.delete_passages(tx, erasure))

    def _remove_orphans(self, unwanted: set[str]) -> None:
        """Files that a killed worker wrote and never committed may hold the document too."""
        orphans = self.files.settled(_ORPHAN_SECONDS)
        with self.catalog.read() as tx:
            named = erasing.named_files(tx)
        for file_id in orphans:
            if file_id not in named and not unwanted.isdisjoint(self.files.read(file_id)):
                self.files.remove(file_id)

    def _rewrite(self, old: str, unwanted: set[str]) -> None:
        """Killed in between, the old file is still named by what is to go, so that it is found again."""
        new = str(uuid.uuid4())
        with self.catalog.read() as tx:
            kept = erasing.staying(tx, old, unwanted)
        if kept:
            held = self.files.read(old)
            self.files.write(new, kept, np.stack([held[item] for item in kept]))
        with self.catalog.write() as tx:
            erasing.file_moved(tx, old, new, kept)
        self.files.remove(old)
        with self.catalog.write() as tx:
            erasing.file_gone(tx, old)

    async def _features(self, erasure: Erasure) -> None:
        for view in (DOCUMENTS, USAGE):
            await self.features.erase(view, erasure.tenant, erasure.collection, erasure.doc_id)

    async def _uploads(self, erasure: Erasure) -> None:
        """Uploads that finished jobs of the collection keep for a retry may hold the document."""
        requests = await self.catalog.writing(lambda tx: erasing.scrub_jobs(tx, erasure))
        for directory in {Path(file["path"]).parent for request in requests for file in request.get("files", ())}:
            await asyncio.to_thread(shutil.rmtree, directory, True)

    async def _database(self, _: Erasure) -> None:
        await asyncio.to_thread(purge, self.catalog.engine)

    async def _note(self, job: jobs.Job, done: int, state: str) -> None:
        def write(tx: Connection) -> None:
            erasing.step_done(tx, job.job_id, state)
            jobs.progress(tx, job.job_id, done, {}, (), job.attempts)

        await self.catalog.writing(write)


def append_tombstone(log: Path, erasure: Erasure) -> None:
    """Add the erasure to the log, durably; once more does no harm."""
    row = {
        "erasure_id": erasure.erasure_id,
        "tenant": erasure.tenant,
        "collection": erasure.collection,
        "doc_id": erasure.doc_id,
        "erased_at": erasure.created_at,
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def tombstones(log: Path) -> Iterator[dict[str, Any]]:
    """The log's rows; a last line that broke off in a crash stands for an erasure that had not begun."""
    lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def replay_tombstones(catalog: Database, log: Path) -> list[str]:
    """`replay` in a transaction of its own."""
    with catalog.write() as tx:
        return replay(tx, log)


def replay(tx: Connection, log: Path) -> list[str]:
    """Ask again for every erasure that a restored catalog does not know of; returns the ids of the jobs.

    What was recorded after an erasure stays: the document was taken in anew.
    """
    asked: dict[str, None] = {}
    for row in tombstones(log):
        where = (str(row["tenant"]), str(row["collection"]), str(row["doc_id"]))
        if erasing.recorded_before(tx, *where, int(str(row["erased_at"]))):
            asked[erasing.ask(tx, *where).job_id] = None
    return list(asked)
