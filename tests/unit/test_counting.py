"""The loop that counts events: what it does again after a failure, and how often it materializes."""

import asyncio

from services.common.errors import Unavailable
from services.orchestrator import counting
from services.orchestrator.counting import Counting


class Aggregator:
    """Gives the numbers in turn, then nothing; an exception is raised."""

    def __init__(self, *counts):
        self.counts, self.looks, self.materialized = list(counts), 0, []
        self.wanted, self.reached = 0, asyncio.Event()

    async def count(self):
        self.looks += 1
        if self.looks == self.wanted:
            self.reached.set()
        found = self.counts.pop(0) if self.counts else 0
        if isinstance(found, Exception):
            raise found
        return found

    async def materialize(self):
        self.materialized.append(self.looks)
        raise Unavailable("not just now")


async def looked(aggregator, times):
    aggregator.wanted = times
    running = asyncio.ensure_future(Counting(aggregator, 0).run())
    await aggregator.reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_failure_is_not_the_last_look():
    aggregator = Aggregator(Unavailable("down"), ValueError("odd"), 3)
    await looked(aggregator, 5)
    assert aggregator.looks >= 5


async def test_counts_are_materialized_where_something_was_counted_and_not_at_every_look(monkeypatch):
    monkeypatch.setattr(counting, "BUSY_SECONDS", 0.0)
    aggregator = Aggregator(0, 3, 0, 0, 1)
    await looked(aggregator, 8)
    assert aggregator.materialized == [2, 5]


async def test_windows_that_expire_are_materialized_without_an_event(monkeypatch):
    monkeypatch.setattr(counting, "IDLE_SECONDS", 0.0)
    aggregator = Aggregator()
    await looked(aggregator, 3)
    assert len(aggregator.materialized) >= 2
