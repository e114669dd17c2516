"""Concurrent calls in common batches, over an engine that works only when told to."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest

from services.common.errors import DeadlineExceeded
from services.common.models import Model
from services.common.nodes.encoder import TextKind, Vectors
from services.common.rpc.deadlines import deadline
from services.encoder.backends.memory import HashedWords, MemoryBackend
from services.encoder.batching import Batcher, Limits
from services.encoder.encoder import ModelEncoder
from tests.fakes.encoder import encoder_model


class Engine(Executor):
    """A model and its thread: a text is its list of tokens, its vector says which; one batch at a time when stepped."""

    packs = False

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.begun = asyncio.Event()
        self.begun_batches = 0
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._held: list[tuple[Future[Any], Callable[[], Any]]] = []

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        raise NotImplementedError

    def embed(self, batch: Sequence[list[int]]) -> Vectors:
        self.batches.append(list(batch))
        if any(tokens[0] < 0 for tokens in batch):
            raise ValueError("a negative token")
        return np.array([[tokens[0], len(tokens)] for tokens in batch], np.float32)

    def submit(self, work: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: work(*arguments)))
        self.begun_batches += 1
        self.begun.set()
        return future

    async def step(self) -> None:
        """Run the batch that was begun, then let everyone hear of it."""
        future, work = self._waiting.popleft()
        self.begun.clear()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        await settle()

    def hold(self) -> None:
        """Leave the batch that was begun first."""
        self._held.append(self._waiting.popleft())

    def release(self) -> None:
        self._waiting.extend(self._held)

    async def finish(self) -> None:
        while self._waiting:
            await self.step()

    @property
    def idle(self) -> bool:
        return not self._waiting


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Queue:
    def __init__(self, **limits: Any) -> None:
        self.engine = Engine()
        self.batcher = Batcher(self.engine, Limits(**limits))

    async def call(self, *texts: list[int], model: str = "m") -> asyncio.Task[Vectors]:
        """A call of these texts, as far as it gets before the engine's next step."""
        task = asyncio.create_task(self.batcher.encode(model, self.engine, texts, 2))
        await settle()
        return task

    @property
    def firsts(self) -> list[list[int]]:
        """The first token of each text, batch by batch."""
        return [[tokens[0] for tokens in batch] for batch in self.engine.batches]


def text(first: int, length: int = 8) -> list[int]:
    return [first] * length


async def test_what_comes_while_the_engine_is_idle_goes_at_once_and_alone() -> None:
    queue = Queue(delay_seconds=60)
    call = await queue.call(text(1))
    await queue.engine.step()
    assert queue.firsts == [[1]] and (await call).tolist() == [[1, 8]]


async def test_calls_that_come_while_the_engine_works_share_the_next_batch() -> None:
    queue = Queue()
    calls = [await queue.call(text(number)) for number in range(6)]
    await queue.engine.finish()
    assert queue.firsts == [[0], [1, 2, 3, 4, 5]]
    assert [(await call)[0, 0] for call in calls] == [0, 1, 2, 3, 4, 5]


async def test_rows_are_in_the_order_asked_however_the_texts_were_batched() -> None:
    queue = Queue(texts=3)
    lengths = [9, 2, 30, 4, 1, 30, 17, 5, 5, 12]
    one = await queue.call(*(text(row, length) for row, length in enumerate(lengths)))
    other = await queue.call(*(text(100 + row, length) for row, length in enumerate(reversed(lengths))))
    await queue.engine.finish()
    assert (await one).tolist() == [[row, length] for row, length in enumerate(lengths)]
    assert (await other).tolist() == [[100 + row, length] for row, length in enumerate(reversed(lengths))]
    assert sorted(first for batch in queue.firsts for first in batch) == [*range(10), *range(100, 110)]


async def test_a_batch_holds_no_more_texts_and_no_more_tokens_than_it_may_padding_included() -> None:
    queue = Queue(texts=4, tokens=64)
    await queue.call(*(text(row, 8) for row in range(6)), *(text(row, 30) for row in range(3)), text(9, 100))
    await queue.engine.finish()
    sizes = [(len(batch), max(map(len, batch))) for batch in queue.engine.batches]
    assert sizes == [(4, 8), (2, 8), (2, 30), (1, 30), (1, 100)]


async def test_texts_of_unlike_length_do_not_share_a_batch() -> None:
    queue = Queue(tokens=320)
    await queue.call(text(0))
    for number, length in enumerate([100, 10, 99, 11, 10], 1):
        await queue.call(text(number, length))
    await queue.engine.finish()
    assert queue.firsts == [[0], [3, 1], [2, 5, 4]]


async def test_texts_of_any_length_share_a_batch_of_a_model_that_packs_them() -> None:
    queue = Queue(tokens=120)
    queue.engine.packs = True
    await queue.call(text(0))
    for number, length in enumerate([60, 10, 20, 30], 1):
        await queue.call(text(number, length))
    await queue.engine.finish()
    assert queue.firsts == [[0], [2, 3, 4, 1]]


async def test_models_do_not_share_a_batch_but_the_engine_in_turns() -> None:
    queue = Queue(texts=2)
    for number in range(4):
        await queue.call(text(number), model="a")
        await queue.call(text(number + 10), model="b")
    await queue.engine.finish()
    assert queue.firsts == [[0], [10, 11], [1, 2], [12, 13], [3]]


async def test_a_large_call_does_not_starve_a_small_one_nor_small_ones_a_large_one() -> None:
    queue = Queue(texts=4)
    large = await queue.call(*(text(0, 20) for _ in range(1000)))
    await queue.engine.step()
    small = await queue.call(text(1, 5))
    await queue.engine.step()
    assert not small.done(), "this batch was already begun"
    await queue.engine.step()
    assert small.done() and not large.done()
    for number in range(2, 2000):
        if large.done():
            break
        await queue.call(text(number, 5))
        await queue.engine.step()
    assert large.done(), "half of the batches are the large call's: 1,000 texts in 4s take about 500 batches"
    await queue.engine.finish()


async def test_a_cancelled_call_leaves_the_queue_and_its_neighbours_do_not_notice() -> None:
    queue = Queue(texts=2)
    first = await queue.call(*(text(0) for _ in range(10)))
    second = await queue.call(text(1))
    first.cancel()
    await settle()
    await queue.engine.finish()
    assert queue.firsts == [[0, 0], [1]], "only the batch that was already begun has the cancelled call's texts"
    assert first.cancelled() and (await second)[0, 0] == 1


async def test_the_error_of_one_call_stays_its_own() -> None:
    queue = Queue()
    calls = [await queue.call(text(number)) for number in (1, 2, -3, 4)]
    await queue.engine.finish()
    assert [(await calls[row])[0, 0] for row in (0, 1, 3)] == [1, 2, 4]
    with pytest.raises(ValueError, match="negative"):
        await calls[2]


async def test_a_failed_call_asks_no_more_of_the_engine() -> None:
    queue = Queue(texts=1)
    call = await queue.call(text(-1), text(2), text(3))
    await queue.engine.finish()
    assert queue.firsts == [[-1]] and isinstance(call.exception(), ValueError)


async def test_after_a_shared_batch_the_engine_waits_until_as_many_are_back() -> None:
    queue = Queue(delay_seconds=60)
    for number in range(3):
        await queue.call(text(number))
    await queue.engine.step()
    await queue.engine.step()
    await queue.call(text(3))
    assert queue.engine.idle
    await queue.call(text(4))
    await queue.engine.finish()
    assert queue.firsts == [[0], [1, 2], [3, 4]]


async def test_the_engine_waits_no_longer_than_the_delay() -> None:
    queue = Queue(delay_seconds=0.01)
    for number in range(3):
        await queue.call(text(number))
    await queue.engine.step()
    await queue.engine.step()
    call = await queue.call(text(3))
    async with asyncio.timeout(5):
        await queue.engine.begun.wait()
        await queue.engine.step()
        assert (await call)[0, 0] == 3


async def test_idle_lanes_take_equal_shares_of_what_waits() -> None:
    queue = Queue(lanes=2, padding=0)
    for number in range(4):
        await queue.call(text(number))
    assert queue.engine.begun_batches == 2, "what comes while a lane is idle goes at once"
    await queue.engine.finish()
    assert queue.firsts == [[0], [1], [2, 3]], "a lane beside a busy one takes all that waits"
    calls = [asyncio.create_task(queue.batcher.encode("m", queue.engine, [text(number)], 2)) for number in range(6)]
    await settle()
    assert queue.engine.begun_batches == 5
    await queue.engine.finish()
    assert queue.firsts[3:] == [[0, 1, 2], [3, 4, 5]] and [(await call)[0, 0] for call in calls] == [*range(6)]


async def test_a_lane_waits_for_no_other() -> None:
    queue = Queue(lanes=2, texts=1)
    held, *others = [await queue.call(text(number)) for number in range(5)]
    queue.engine.hold()
    await queue.engine.finish()
    assert queue.firsts == [[1], [2], [3], [4]] and all(call.done() for call in others) and not held.done()
    queue.engine.release()
    await queue.engine.finish()
    assert (await held)[0, 0] == 0


async def test_one_call_of_many_texts_has_all_lanes() -> None:
    queue = Queue(lanes=3, texts=2)
    call = await queue.call(*(text(row) for row in range(6)))
    assert queue.engine.begun_batches == 3
    await queue.engine.finish()
    assert (await call)[:, 0].tolist() == [*range(6)]


class Gate(MemoryBackend):
    """Loads of `slow` and texts of the word `held` wait until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.holding = threading.Event()
        self.embedded: list[list[str]] = []

    def load(self, model: Model) -> HashedWords:
        if model.name == "slow":
            self.go.wait(10)
        backend = self

        class Held(HashedWords):
            def embed(self, batch: Sequence[list[str]]) -> Vectors:
                if ["held"] in batch:
                    backend.holding.set()
                    backend.go.wait(10)
                backend.embedded.extend(batch)
                return super().embed(batch)

        return Held(model.dimensions, model.max_tokens)


def encoder(backend: Gate) -> ModelEncoder:
    served = {name: encoder_model(name, dimensions) for name, dimensions in (("a", 8), ("b", 16), ("slow", 32))}
    return ModelEncoder(backend, served)


async def test_a_load_does_not_keep_other_models_from_encoding() -> None:
    backend = Gate()
    node = encoder(backend)
    loading = asyncio.create_task(node.encode("slow", TextKind.QUERY, ["x"]))
    async with asyncio.timeout(5):
        assert (await node.encode("a", TextKind.QUERY, ["x"])).shape == (1, 8)
        assert (await node.encode("b", TextKind.QUERY, ["x"])).shape == (1, 16)
    assert not loading.done()
    backend.go.set()
    assert (await loading).shape == (1, 32)


async def test_texts_whose_deadline_passes_in_the_queue_are_never_encoded() -> None:
    backend = Gate()
    node = encoder(backend)
    held = asyncio.create_task(node.encode("a", TextKind.QUERY, ["held"]))
    await asyncio.to_thread(backend.holding.wait, 10)
    with pytest.raises(DeadlineExceeded, match="not encoded in time"), deadline(0.05):
        await node.encode("a", TextKind.QUERY, ["late"])
    backend.go.set()
    await held
    await node.encode("a", TextKind.QUERY, ["next"])
    assert ["held"] in backend.embedded and ["next"] in backend.embedded and ["late"] not in backend.embedded


async def test_a_deadline_holds_while_the_model_is_loaded() -> None:
    backend = Gate()
    node = encoder(backend)
    with pytest.raises(DeadlineExceeded), deadline(0.05):
        await node.encode("slow", TextKind.QUERY, ["x"])
    backend.go.set()
    assert (await node.encode("slow", TextKind.QUERY, ["x"])).shape == (1, 32)


def test_what_a_loop_left_amid_a_batch_takes_no_lane_from_the_next_loop() -> None:
    backend = Gate()
    encoding = encoder(backend)

    async def leave() -> None:
        asyncio.create_task(encoding.encode("a", TextKind.PASSAGE, ["held"]))  # noqa: RUF006
        await asyncio.to_thread(backend.holding.wait, 10)

    asyncio.run(leave())
    backend.go.set()
    vectors = asyncio.run(asyncio.wait_for(encoding.encode("a", TextKind.PASSAGE, ["word"]), 10))
    assert vectors.shape == (1, 8)
    encoding.close()
