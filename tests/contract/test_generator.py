"""What every generator promises, over its backends, in process and over gRPC."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from services.common.clients.generator import GeneratorClient
from services.common.errors import InvalidRequest, ModelNotFound, Overloaded, Unavailable
from services.common.nodes.generator import Chunk, Generator, Message, Prompt
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.generator.backends.base import Backend
from services.generator.backends.llamacpp import LlamaCppBackend, load
from services.generator.backends.memory import MemoryBackend
from services.generator.backends.slots import SlotPool
from services.generator.generator import BoundedGenerator, Limits
from services.generator.server import GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server
from tests.fakes.generator import FakeGenerator

SLOTS = 2
WINDOW = 512
STORY = "Tell a long story about a fox and a crow who meet by a river and talk about the winter to come."


SETTINGS = GeneratorSettings(generator_slots=SLOTS, generator_context_tokens=WINDOW, generator_threads=1)


@pytest.fixture(scope="module")
def llama() -> object:
    """The model, loaded once; without it the tests are skipped, except in CI."""
    try:
        return load(SETTINGS)
    except ModelNotFound as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.detail)


@pytest.fixture(params=["memory", "llamacpp"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        made: Backend = MemoryBackend(slots=SLOTS, context_tokens=WINDOW, pace=50)
    else:
        made = LlamaCppBackend(request.getfixturevalue("llama"), SETTINGS)
    yield made
    made.close()


@asynccontextmanager
async def served(generator: Generator, socket: Path) -> AsyncGenerator[GeneratorClient, None]:
    server = await start(
        f"unix:{socket}",
        "almanac.generator.v1.Generator",
        lambda server: add_GeneratorServicer_to_server(GeneratorServicer(generator), server),
    )
    async with channel(f"unix:{socket}") as line:
        yield GeneratorClient(line)
    await server.stop(1)


@pytest.fixture(params=["in process", "gRPC"])
async def generator(
    request: pytest.FixtureRequest, backend: Backend, tmp_path: Path
) -> AsyncGenerator[Generator, None]:
    bounded = BoundedGenerator(backend, Limits(max_tokens=400, queue=16))
    if request.param == "in process":
        yield bounded
    else:
        async with served(bounded, tmp_path / "s") as client:
            yield client


def prompt(text: str = STORY, **how: object) -> Prompt:
    return Prompt(**{"tenant": "a", "messages": (Message("user", text),), "max_tokens": 16, **how})  # type: ignore[arg-type]


async def chunks_of(generator: Generator, asked: Prompt) -> list[Chunk]:
    return [chunk async for chunk in generator.generate(asked)]


async def text_of(generator: Generator, asked: Prompt) -> str:
    return "".join(chunk.text for chunk in await chunks_of(generator, asked))


async def occupy(generator: Generator, chunks: int = 3) -> list[AsyncGenerator[Chunk, None]]:
    """Take every slot with answers long enough to outlast a test, each `chunks` in."""
    running = [generator.generate(prompt(f"{number}. {STORY * 5}", max_tokens=400)) for number in range(SLOTS)]
    for stream in running:
        for _ in range(chunks):
            await anext(stream)
    return running


async def test_text_comes_in_several_chunks_and_the_last_counts(generator: Generator) -> None:
    *pieces, last = await chunks_of(generator, prompt())
    assert len([piece for piece in pieces if piece.text]) > 4
    assert not any(piece.finish_reason or piece.prompt_tokens or piece.completion_tokens for piece in pieces)
    assert last.finish_reason == "length"
    assert last.completion_tokens == 16
    assert 16 < last.prompt_tokens < 120


async def test_first_text_comes_long_before_the_last(generator: Generator) -> None:
    began = time.monotonic()
    times = [time.monotonic() - began async for chunk in generator.generate(prompt(STORY, max_tokens=64))]
    assert times[1] < times[-1] * 0.7


async def test_the_same_prompt_gives_the_same_text(generator: Generator) -> None:
    texts = {await text_of(generator, prompt(max_tokens=24)) for _ in range(3)}
    assert len(texts) == 1


async def test_eight_at_once_all_finish(generator: Generator) -> None:
    asked = [prompt(f"Count to {number} and say why.", max_tokens=8) for number in range(3, 11)]
    together = await asyncio.gather(*(chunks_of(generator, one) for one in asked))
    assert all(chunks[-1].finish_reason for chunks in together)
    assert all("".join(chunk.text for chunk in chunks) for chunks in together)


async def test_a_stop_string_ends_the_text_and_is_not_given_out(generator: Generator) -> None:
    whole = await text_of(generator, prompt(max_tokens=24))
    mark = whole.split()[4]
    chunks = await chunks_of(generator, prompt(max_tokens=24, stop=(mark,)))
    stopped = "".join(chunk.text for chunk in chunks)
    assert stopped == whole[: whole.index(mark)]
    assert chunks[-1].finish_reason == "stop"


async def test_closing_while_decoding_frees_the_slots(generator: Generator) -> None:
    running = await occupy(generator)
    waiting = asyncio.create_task(text_of(generator, prompt("Hi.", max_tokens=1)))
    done, _ = await asyncio.wait([waiting], timeout=0.15)
    assert not done
    began = time.monotonic()
    for stream in running:
        await stream.aclose()
    closed = time.monotonic() - began
    await waiting
    assert closed < 0.2
    assert time.monotonic() - began < 1.6


async def test_cancelling_the_task_frees_the_slots(generator: Generator) -> None:
    tasks = [asyncio.create_task(text_of(generator, prompt(STORY * 8, max_tokens=400))) for _ in range(SLOTS)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    began = time.monotonic()
    await text_of(generator, prompt("Hi.", max_tokens=1))
    assert time.monotonic() - began < 2.0


async def test_closing_while_waiting_for_a_slot_leaves_the_slots_intact(generator: Generator) -> None:
    running = await occupy(generator)
    waiting = asyncio.create_task(text_of(generator, prompt("Hi.", max_tokens=1)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    for stream in running:
        await stream.aclose()
    answers = await asyncio.gather(*(text_of(generator, prompt(max_tokens=2)) for _ in range(SLOTS * 2)))
    assert all(answers)


async def test_a_prompt_longer_than_the_window_is_refused(generator: Generator) -> None:
    with pytest.raises(InvalidRequest, match="window"):
        await text_of(generator, prompt("word " * 1000))
    assert await text_of(generator, prompt())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 401},
        {"temperature": -1.0},
        {"temperature": 9.0},
        {"stop": ("",)},
        {"messages": ()},
        {"messages": (Message("user", "  "),)},
        {"messages": (Message("oracle", "Hi."),)},
    ],
    ids=str,
)
async def test_what_cannot_be_decoded_is_refused(wrong: dict[str, object]) -> None:
    generator = BoundedGenerator(MemoryBackend(), Limits(max_tokens=400))
    with pytest.raises(InvalidRequest):
        await text_of(generator, prompt(**wrong))


async def test_an_adapter_not_served_is_not_found() -> None:
    generator = BoundedGenerator(MemoryBackend(adapters=("terse",)))
    assert await generator.models() == ["memory", "terse"]
    assert await text_of(generator, prompt(adapter="terse"))
    with pytest.raises(ModelNotFound, match="terse"):
        await text_of(generator, prompt(adapter="verbose"))


async def test_the_model_is_named_first(generator: Generator) -> None:
    assert (await generator.models())[0] in {"memory", "SmolLM2-135M-Instruct"}


async def test_a_full_queue_refuses_and_a_place_freed_admits() -> None:
    generator = BoundedGenerator(MemoryBackend(slots=SLOTS, pace=50), Limits(queue=0))
    running = await occupy(generator, chunks=1)
    with pytest.raises(Overloaded):
        await text_of(generator, prompt())
    await running[0].aclose()
    assert await text_of(generator, prompt())


async def test_cancelling_the_call_stops_the_decoding_on_the_server(tmp_path: Path) -> None:
    backend = MemoryBackend(pace=50)
    async with served(BoundedGenerator(backend), tmp_path / "s") as client:
        async with aclosing(client.generate(prompt(STORY * 5, max_tokens=400))) as chunks:
            await anext(chunks)
            assert backend.decoding == 1
        began = time.monotonic()
        while backend.decoding:
            assert time.monotonic() - began < 0.5
            await asyncio.sleep(0.005)


async def test_a_failure_midway_reaches_the_caller_as_itself(tmp_path: Path) -> None:
    failing = MemoryBackend(failure=Unavailable("the engine is gone"), fail_after=2)
    async with served(BoundedGenerator(failing), tmp_path / "s") as client:
        got: list[str] = []
        with pytest.raises(Unavailable, match="the engine is gone"):
            async for chunk in client.generate(prompt()):
                got.append(chunk.text)
    assert got == ["Tell", " a"]


async def test_the_fake_says_what_it_is_told_and_remembers_the_prompt() -> None:
    fake = FakeGenerator("Paris it is.")
    asked = prompt()
    assert await text_of(fake, asked) == "Paris it is."
    assert fake.prompts == [asked]


async def test_a_slots_cache_is_never_used_for_another_tenant() -> None:
    pool = SlotPool(1)
    slot, warm = await pool.acquire(("a", ""), "the prompt")
    assert not warm
    pool.release(slot)
    slot, warm = await pool.acquire(("b", ""), "the prompt")
    assert not warm
    pool.release(slot)
    assert (await pool.acquire(("b", ""), "the prompt"))[1]


async def test_the_slot_with_the_longest_shared_prefix_is_lent() -> None:
    pool = SlotPool(3)
    lent = [(await pool.acquire(("a", ""), text))[0] for text in ("the fox runs", "the crow", "other")]
    for slot in lent:
        pool.release(slot)
    assert (await pool.acquire(("a", ""), "the fox sleeps"))[0] is lent[0]
    assert (await pool.acquire(("a", ""), "the crow flies"))[0] is lent[1]
