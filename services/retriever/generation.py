"""One open generation: the thread that calls its index, the searches that wait for it, and its builds."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from services.common.nodes.retriever import Query, Standing
from services.retriever.backends.base import Build, Candidates, Index
from services.retriever.progress import Progress

Result = TypeVar("Result")
Asked = tuple[Query, int, "asyncio.Future[Candidates]"]

MOST_TOGETHER = 32
"""Searches in one engine call."""
_AGAIN_SECONDS = (1.0, 60.0)
"""The shortest and the longest wait before a build that failed is begun again."""

log = structlog.get_logger()


class OpenGeneration:
    """An open index, the one thread that calls it, and the progress of its collections."""

    def __init__(self, name: str, index: Index) -> None:
        self.index = index
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._progress: dict[tuple[str, str], Progress] = {}
        self._asked: list[Asked] = []
        self._searching: asyncio.Task[None] | None = None
        self._build: asyncio.Task[None] | None = None
        self._making = False
        self.writing = asyncio.Lock()
        """Held around whatever changes the index."""

    async def run(self, work: Callable[[Index], Result]) -> Result:
        """The index is looked up when the work's turn has come: it may have been replaced meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self.index))

    async def search(self, query: Query, depth: int) -> Candidates:
        """What comes in while the engine is at work waits, and is then searched in one call."""
        found: asyncio.Future[Candidates] = asyncio.get_running_loop().create_future()
        self._asked.append((query, depth, found))
        if self._searching is None:
            self._searching = asyncio.create_task(self._search_all())
        return await found

    async def step(self, steps: Generator[Result]) -> Result | None:
        """The next of an index's steps, None at their end."""
        return await self.run(lambda _: next(steps, None))

    async def change(self, steps: Generator[bool]) -> None:
        """Take all the steps of something that changes the index; other changes may come in between."""
        try:
            while True:
                async with self.writing:
                    if await self.step(steps) is None:
                        return
        finally:
            await self.run(lambda _: steps.close())

    async def swap(self, reopen: Callable[[], Index]) -> None:
        """Put another index in the place of this one, between two calls. `writing` must be held."""

        def swapped(index: Index) -> None:
            index.close()
            self.index = reopen()

        await self.run(swapped)
        for (tenant, collection), progress in self._progress.items():
            await progress.advance(max(progress.watermark, self.index.watermark(tenant, collection)))

    async def progress(self, tenant: str, collection: str) -> Progress:
        held = self._progress.get((tenant, collection))
        if held is not None:
            return held
        watermark = await self.run(lambda index: index.watermark(tenant, collection))
        return self._progress.setdefault((tenant, collection), Progress(watermark))

    async def standing(self) -> Standing:
        points, unbuilt = await self.run(lambda index: (index.count(), index.unbuilt()))
        disk, memory = await self.run(lambda index: (index.disk_bytes(), index.memory_bytes()))
        return Standing(points, unbuilt, disk, memory, self._making)

    def consider_build(self) -> None:
        """Build in the background if enough was written since the last time."""
        if self._build is None or self._build.done():
            self._build = asyncio.create_task(self._build_until_done())

    async def stop_building(self) -> None:
        """Give up a build that is under way: what it was made from is to change altogether."""
        if self._build is not None:
            self._build.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._build

    async def close(self) -> None:
        await self.stop_building()
        await self.run(lambda index: index.close())
        self._thread.shutdown()

    async def _search_all(self) -> None:
        try:
            while self._asked:
                batch = [one for one in self._asked[:MOST_TOGETHER] if not one[2].done()]
                del self._asked[:MOST_TOGETHER]
                if batch:
                    await self._search_together(batch)
        finally:
            self._searching = None

    async def _search_together(self, batch: list[Asked]) -> None:
        try:
            found = await self.run(lambda index: index.search([(query, depth) for query, depth, _ in batch]))
        except Exception as error:
            if len(batch) > 1:  # one caller's mistake is not the others'
                for one in batch:
                    await self._search_together([one])
            elif not batch[0][2].done():
                batch[0][2].set_exception(error)
            return
        for (_, _, waiting), candidates in zip(batch, found, strict=True):
            if not waiting.done():
                waiting.set_result(candidates)

    async def _build_until_done(self) -> None:
        """Until nothing is left that a build would pay for: what was written during one may call for the next."""
        wait, longest = _AGAIN_SECONDS
        try:
            while (made := await self._build_once()) is not None:
                if not made:
                    await asyncio.sleep(wait)
                    wait = min(longest, wait * 2)
        finally:
            self._making = False

    async def _build_once(self) -> bool | None:
        """Whether the build came to its end; None where there was nothing to build."""
        try:
            return await self._built()
        except Exception:
            log.exception("build_failed", generation=self._name)
            return False

    async def _built(self) -> bool | None:
        build: Build | None = None
        try:
            async with self.writing:
                build = await self.run(lambda index: index.begin_build())
                if build is None:
                    return None
                self._making = True
                steps = build.prepare()
                while await self.step(steps) is not None:
                    pass
            done = await _make(build)
            if done:
                await self.change(build.adopt())
            else:
                log.warning("builder_died", generation=self._name)
            return done
        finally:
            if build is not None:
                await self.run(lambda _: build.abandon())


async def _make(build: Build) -> bool:
    """Run the builder; whether it came to its end. It does not outlive the call."""
    process = await asyncio.create_subprocess_exec(sys.executable, *build.command)
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
