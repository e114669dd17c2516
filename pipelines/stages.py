"""Stages side by side: each an async generator, run ahead of the one that reads it by a few records at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import ParamSpec, TypeVar

Record = TypeVar("Record")
Parameters = ParamSpec("Parameters")


def ahead(group: asyncio.TaskGroup, stage: AsyncGenerator[Record, None], size: int = 1) -> AsyncGenerator[Record, None]:
    """The records of a stage that runs as a task of the group, up to `size` records waiting to be read.

    A stage that fails ends the group, and with it every other stage.
    """
    line: asyncio.Queue[tuple[Record] | None] = asyncio.Queue(size)

    async def fill() -> None:
        async with aclosing(stage):
            async for record in stage:
                await line.put((record,))
        await line.put(None)

    async def drain() -> AsyncGenerator[Record, None]:
        while (found := await line.get()) is not None:
            yield found[0]

    group.create_task(fill())
    return drain()


async def to_its_end(work: Callable[Parameters, Record], *given: Parameters.args, **named: Parameters.kwargs) -> Record:
    """Run in a thread. Whoever cancels waits until it has ended, for a thread cannot be stopped half way."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *given, **named))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def cause(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that came first; the others followed from it."""
    first = failed.exceptions[0]
    return cause(first) if isinstance(first, BaseExceptionGroup) else first
