"""Adaptive batching: texts of concurrent calls share the engine's batches, and calls take turns.

While the engine works, what arrives gathers; when a lane of it is free, the call whose turn it is opens the next batch
with its shortest text, and waiting texts of like length, whoever sent them, fill it. So a batch has little padding, a
call of one text waits for the batch at hand and at most one of each call before it, and nothing waits for an idle lane.

Lanes work at a batch each, side by side: what a batch costs beside its tokens (dispatch, threads that meet) is spent by
one while the others compute, so that small batches of like length are as good as large ones.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from services.common.nodes.encoder import Vectors
from services.encoder.backends.base import LoadedModel, Tokens
from services.encoder.metrics import BATCH_TEXTS, WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold, how many are computed side by side, and how long a lane waits for calls just answered
    to come back."""

    texts: int = 64
    tokens: int = 512
    """Padding included."""
    padding: int = 16
    """Of the tokens."""
    packed: bool = False
    """Whether there is no padding."""
    share: float = math.inf
    """Of the tokens that wait."""
    lanes: int = 1
    delay_seconds: float = 0.0


class _Text(NamedTuple):
    """A text that waits. Sorted, those of one model stand together, like lengths side by side, the oldest first."""

    model: str
    length: int
    number: int
    row: int
    tokens: Tokens
    call: _Call


class _Call:
    """One call: what it still waits for, and where its vectors go."""

    def __init__(self, model: LoadedModel, vectors: Vectors) -> None:
        self.model = model
        self.began = time.perf_counter()
        self.waiting: dict[int, _Text] = {}
        self.done: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._vectors = vectors
        self._missing = len(vectors)

    def put(self, row: int, vector: Vectors) -> None:
        self._vectors[row] = vector
        self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(self._vectors)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Batcher:
    """One engine's queue, for any number of models; its batches run on `threads`, of which there is one per lane."""

    def __init__(self, threads: Executor, limits: Limits) -> None:
        self._threads = threads
        self._limits = limits
        self._texts: list[_Text] = []
        self._turns: deque[_Call] = deque()
        self._numbers = 0
        self._lanes: set[asyncio.Task[None]] = set()
        self._computing = 0
        self._gathering: dict[asyncio.Future[None], int] = {}

    async def encode(self, name: str, model: LoadedModel, tokens: Sequence[Tokens], dimensions: int) -> Vectors:
        """One row per text, in order, shape (len(tokens), dimensions); at least one text.

        Raises what the engine raises for these texts alone. Cancelled, its texts leave the queue.
        """
        call = _Call(model, np.empty((len(tokens), dimensions), np.float32))
        self._add(name, call, tokens)
        try:
            return await call.done
        finally:
            self._drop(call)

    def _add(self, name: str, call: _Call, tokens: Sequence[Tokens]) -> None:
        first = self._numbers
        self._numbers += len(tokens)
        texts = [_Text(name, len(one), first + row, row, one, call) for row, one in enumerate(tokens)]
        call.waiting = {text.number: text for text in sorted(texts)}
        self._texts.extend(texts)
        self._texts.sort()
        self._turns.append(call)
        for gathered, expected in self._gathering.items():
            if len(self._turns) >= expected and not gathered.done():
                gathered.set_result(None)
        while len(self._lanes) < min(self._limits.lanes, self._computing + len(self._texts)):
            # Its own context: no call's deadline holds for the batches of all.
            self._lanes.add(asyncio.create_task(self._run(), context=Context()))

    def _drop(self, call: _Call) -> None:
        if call.waiting:
            self._texts = [text for text in self._texts if text.call is not call]
            self._turns.remove(call)
            call.waiting = {}

    async def _run(self) -> None:
        try:
            while self._turns:
                opener = self._turns[0]
                batch = self._take(opener)
                self._computing += 1
                try:
                    await self._embed(batch)
                finally:
                    self._computing -= 1
                # Only now: what came meanwhile goes before what is left of the opener.
                if self._turns and self._turns[0] is opener:
                    self._turns.rotate(-1)
                await self._gather(len(_calls(batch)))
        finally:
            self._lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _take(self, opener: _Call) -> list[_Text]:
        """The next batch, out of the queue: of what waits, no more than one idle lane's share."""
        first = next(iter(opener.waiting.values()))
        idle = self._limits.lanes - self._computing
        share = sum(text.length for text in self._texts) / idle + first.length / 2
        limits = replace(self._limits, share=share, packed=opener.model.packs)
        low, high = _span(self._texts, bisect_left(self._texts, first), limits)
        batch = self._texts[low:high]
        del self._texts[low:high]
        for text in batch:
            del text.call.waiting[text.number]
            if not text.call.waiting:
                self._turns.remove(text.call)
                WAIT_SECONDS.observe(time.perf_counter() - text.call.began)
        BATCH_TEXTS.observe(len(batch))
        return batch

    async def _embed(self, batch: Sequence[_Text]) -> None:
        work = partial(batch[0].call.model.embed, [text.tokens for text in batch])
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Exception as error:
            await self._failed(batch, error)
            return
        for text, vector in zip(batch, vectors, strict=True):
            text.call.put(text.row, vector)

    async def _failed(self, batch: Sequence[_Text], error: Exception) -> None:
        """Where several calls shared the batch, each is tried alone, so that only the one at fault fails."""
        calls = _calls(batch)
        if len(calls) == 1:
            calls[0].fail(error)
            self._drop(calls[0])
            return
        for call in calls:
            await self._embed([text for text in batch if text.call is call])

    async def _gather(self, answered: int) -> None:
        """After a batch that several calls shared, wait for as many, who are likely to ask again at once."""
        if not self._limits.delay_seconds or answered < 2 or len(self._turns) >= answered:
            return
        gathered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathering[gathered] = answered
        await asyncio.wait([gathered], timeout=self._limits.delay_seconds)
        del self._gathering[gathered]


def _calls(batch: Iterable[_Text]) -> list[_Call]:
    return list(dict.fromkeys(text.call for text in batch))


def _span(texts: Sequence[_Text], first: int, limits: Limits) -> tuple[int, int]:
    """The slice around `first` that makes a batch: the neighbours nearest in length, while padding is little."""
    low, high, tokens = first, first + 1, texts[first].length
    while high - low < limits.texts:
        longest = texts[high - 1].length
        below = longest - texts[low - 1].length if _same(texts, low - 1, first) else math.inf
        above = (high - low) * (texts[high].length - longest) if _same(texts, high, first) else math.inf
        added = low - 1 if below <= above else high
        if not _same(texts, added, first):
            break
        tokens += texts[added].length
        size = tokens if limits.packed else (high - low + 1) * max(longest, texts[added].length)
        if size > limits.tokens or size - tokens > limits.padding or tokens > limits.share:
            break
        low, high = min(low, added), max(high, added + 1)
    return low, high


def _same(texts: Sequence[_Text], index: int, first: int) -> bool:
    """Whether there is a text at the index, for the same model."""
    return 0 <= index < len(texts) and texts[index].model == texts[first].model
