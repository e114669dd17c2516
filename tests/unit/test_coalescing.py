"""Concurrent calls in common messages, to a node that answers when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from services.common import coalescing
from services.common.coalescing import Coalescer
from services.common.errors import DeadlineExceeded, InvalidRequest, Unavailable
from services.common.rpc.deadlines import deadline, remaining


class Node:
    """Answers each item with ten times itself."""

    def __init__(self) -> None:
        self.messages: list[list[int]] = []
        self.seconds: list[float] = []
        self.second = asyncio.Event()
        self.cancelled = 0
        self.failing: dict[int, Exception] = {}
        self._answers: list[asyncio.Future[None]] = []

    async def send(self, items: list[int]) -> list[int]:
        self.messages.append(items)
        if len(self.messages) == 2:
            self.second.set()
        self.seconds.append(remaining(30.0))
        self._answers.append(asyncio.get_running_loop().create_future())
        try:
            await self._answers[-1]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        for item in items:
            if item in self.failing:
                raise self.failing[item]
        return [item * 10 for item in items]

    async def answer(self, *messages: int) -> None:
        for message in messages:
            self._answers[message].set_result(None)
        await settle()


class Callers:
    def __init__(self, full: int = 8) -> None:
        self.node = Node()
        self.coalescer: Coalescer[int, list[int]] = Coalescer(self.node.send, full)

    async def call(self, *calls: Iterable[int], seconds: float | None = None) -> list[asyncio.Task[list[int]]]:
        """These calls at once, as far as they get before the node answers."""
        tasks = [asyncio.create_task(self._call(list(items), seconds)) for items in calls]
        await settle()
        return tasks

    async def _call(self, items: list[int], seconds: float | None) -> list[int]:
        if seconds is None:
            return await self.coalescer.call(items)
        with deadline(seconds):
            return await self.coalescer.call(items)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_a_call_alone_goes_at_once() -> None:
    callers = Callers()
    (one,) = await callers.call([1, 2])
    assert callers.node.messages == [[1, 2]]
    await callers.node.answer(0)
    assert await one == [10, 20]


async def test_what_comes_while_a_message_is_on_its_way_leaves_as_the_next_one() -> None:
    callers = Callers()
    first = await callers.call([1], [2])
    later = [*await callers.call([3, 4]), *await callers.call([5])]
    assert callers.node.messages == [[1, 2]]
    await callers.node.answer(0)
    assert callers.node.messages == [[1, 2], [3, 4, 5]]
    await callers.node.answer(1)
    assert [await call for call in (*first, *later)] == [[10], [20], [30, 40], [50]]


async def test_those_answered_ask_again_in_one_message() -> None:
    callers = Callers()

    async def twice(item: int) -> list[int]:
        (answer,) = await callers.coalescer.call([item])
        return await callers.coalescer.call([answer])

    calls = [asyncio.create_task(twice(item)) for item in (1, 2, 3)]
    await settle()
    await callers.node.answer(0)
    assert callers.node.messages == [[1, 2, 3], [10, 20, 30]]
    await callers.node.answer(1)
    assert [await call for call in calls] == [[100], [200], [300]]


async def test_a_full_message_leaves_at_once_and_none_holds_more() -> None:
    callers = Callers(full=3)
    first = await callers.call([0])
    more = await callers.call([1], [2], [3], [4], [5, 6], [7])
    assert callers.node.messages == [[0], [1, 2, 3], [4, 5, 6]], "a full one waits for none, what is left for all"
    await callers.node.answer(0, 1, 2)
    await callers.node.answer(3)
    assert callers.node.messages[3] == [7] and [len(await call) for call in (*first, *more)] == [1, 1, 1, 1, 1, 2, 1]


@pytest.mark.parametrize("fault", [InvalidRequest("no text"), ValueError("a lone surrogate")])
async def test_a_fault_of_one_call_hits_it_alone(fault: Exception) -> None:
    callers = Callers()
    callers.node.failing[2] = fault
    good, bad, other = await callers.call([1], [2], [3])
    await callers.node.answer(0)
    assert callers.node.messages == [[1, 2, 3], [1], [2], [3]]
    await callers.node.answer(1, 2, 3)
    assert (await good, await other) == ([10], [30])
    with pytest.raises(type(fault), match=str(fault)):
        await bad


async def test_a_node_that_is_away_is_away_for_all_and_not_asked_again() -> None:
    callers = Callers()
    callers.node.failing[2] = Unavailable("away")
    calls = await callers.call([1], [2])
    await callers.node.answer(0)
    assert callers.node.messages == [[1, 2]]
    for call in calls:
        with pytest.raises(Unavailable):
            await call


async def test_a_message_has_the_longest_of_its_calls_deadlines_and_each_call_its_own() -> None:
    callers = Callers()
    (long,), (short,) = await asyncio.gather(callers.call([1], seconds=20), callers.call([2], seconds=0.02))
    with pytest.raises(DeadlineExceeded):
        await short
    assert callers.node.messages == [[1, 2]] and 10 < callers.node.seconds[0] <= 20 and not callers.node.cancelled
    await callers.node.answer(0)
    assert await long == [10]


async def test_a_call_without_a_deadline_makes_its_message_have_none() -> None:
    callers = Callers()
    bounded, free = await asyncio.gather(callers.call([1], seconds=5), callers.call([2]))
    assert callers.node.seconds == [30.0]
    await callers.node.answer(0)
    assert [await call for call in (*bounded, *free)] == [[10], [20]]


async def test_a_cancelled_call_takes_nobody_with_it_and_the_last_one_its_message() -> None:
    callers = Callers()
    one, two = await callers.call([1], [2])
    (waiting,) = await callers.call([3])
    (next_one,) = await callers.call([4])
    waiting.cancel()
    one.cancel()
    await settle()
    assert not callers.node.cancelled
    two.cancel()
    await settle()
    assert callers.node.cancelled == 1 and callers.node.messages == [[1, 2], [4]]
    await callers.node.answer(1)
    assert await next_one == [40]


async def test_callers_who_leave_before_their_message_does_hold_nobody_up() -> None:
    callers = Callers()
    left = asyncio.create_task(callers.coalescer.call([1]))
    await asyncio.sleep(0)
    left.cancel()
    await settle()
    (call,) = await callers.call([2])
    await callers.node.answer(len(callers.node.messages) - 1)
    assert await call == [20]


async def test_a_message_that_is_long_on_its_way_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "WAIT_SECONDS", 0.01)
    callers = Callers()
    (stuck,) = await callers.call([1])
    (call,) = await callers.call([2])
    async with asyncio.timeout(5):
        await callers.node.second.wait()
    await callers.node.answer(1)
    assert await call == [20] and not stuck.done()
    await callers.node.answer(0)
    assert await stuck == [10]
