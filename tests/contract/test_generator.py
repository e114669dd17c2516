"""What every generator promises, over its backends, in process and over gRPC.

Those whose libraries are not installed are skipped: `make test-vllm` makes an environment for vLLM.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.common.clients.generator import GeneratorClient
from services.common.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from services.common.nodes.generator import Adapter, Chunk, ManagedGenerator, Message, Prompt
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.common.rpc.server import start
from services.generator.adapters import AdapterEntry
from services.generator.backends import open_backend
from services.generator.backends.base import Backend
from services.generator.backends.memory import MemoryBackend
from services.generator.backends.slots import SlotPool
from services.generator.generator import BoundedGenerator, Limits
from services.generator.residency.holding import OnDemand
from services.generator.residency.keeper import Keeper
from services.generator.residency.policies import KeepAlive
from services.generator.server import GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server
from tests.fakes.adapters import write_gguf, write_peft
from tests.fakes.generator import FakeGenerator

# An engine belongs to the event loop it was started in, and vLLM's is started once.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = {"memory": 2, "llamacpp": 2, "openai": 2, "vllm": 8}
"""Every backend, and how many prompts it decodes at once here."""
PARAMS = [pytest.param(name, marks=[pytest.mark.slow] if name == "openai" else []) for name in SLOTS]
WINDOW = 512
KEY = "of the engine's own server"
STORY = "Tell a long story about a fox and a crow who meet by a river and talk about the winter to come."
ADAPTERS = {"plain": (), "fancy": (), "secret": ("b",)}
"""Adapters, and the tenants that may use them: all, or these."""


def settings_of(backend: str, **how: Any) -> GeneratorSettings:
    how = {"generator_threads": 1, "generator_adapter_places": 2, **how}
    return GeneratorSettings(
        generator_backend=backend, generator_slots=SLOTS[backend], generator_context_tokens=WINDOW, **how
    )


def entries_over(sources: Mapping[str, str]) -> dict[str, AdapterEntry]:
    return {name: AdapterEntry(source=sources[name], tenants=frozenset(tenants)) for name, tenants in ADAPTERS.items()}


NAMED = entries_over(dict.fromkeys(ADAPTERS, "-"))
"""For what does not read them."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The model and its adapters, loaded once; without it the tests are skipped, except in CI."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    from services.generator.backends.llamacpp import load

    place = tmp_path_factory.mktemp("gguf")
    entries = entries_over({name: write_gguf(place / f"{name}.gguf", seed) for seed, name in enumerate(ADAPTERS)})
    try:
        return load(settings_of("llamacpp", generator_adapters=entries), KEY)
    except ModelNotFound as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.detail)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """An engine with the same model, started once."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed: `make test-vllm`")
    from tests.fakes.checkpoint import write_checkpoint

    place = tmp_path_factory.mktemp("vllm")
    entries = entries_over({name: write_peft(place / name, seed) for seed, name in enumerate(ADAPTERS)})
    entries["broken"] = AdapterEntry(source=str(place / "nowhere"))
    model = write_checkpoint(place / "SmolLM2-135M-Instruct")
    made = open_backend(settings_of("vllm", generator_model=str(model), generator_adapters=entries))
    yield made
    asyncio.run(made.close())


def over_llama(llama: Any, **how: Any) -> Backend:
    """The loaded model's server, in process; it also speaks OpenAI's API on loopback."""
    from services.generator.backends.llamacpp import LlamaCppBackend
    from services.generator.backends.llamacpp_servers import Loaded

    return LlamaCppBackend(Loaded(llama, tuple(ADAPTERS)), settings_of("llamacpp", generator_adapters=NAMED, **how))


def over_http(llama: Any, **extra: Any) -> Backend:
    url = f"{llama.listening_address}/v1"
    return open_backend(settings_of("openai", generator_url=url, generator_api_key=KEY, generator_extra_body=extra))


@pytest_asyncio.fixture(params=PARAMS, loop_scope="module")
async def backend(request: pytest.FixtureRequest) -> AsyncGenerator[Backend, None]:
    if request.param == "vllm":
        yield request.getfixturevalue("vllm")
        return
    if request.param == "memory":
        made: Backend = MemoryBackend(slots=SLOTS["memory"], context_tokens=WINDOW, pace=50)
    elif request.param == "llamacpp":
        made = over_llama(request.getfixturevalue("llama"))
    else:
        made = over_http(request.getfixturevalue("llama"), cache_prompt=False)
    yield made
    await made.close()


@asynccontextmanager
async def served(generator: ManagedGenerator, socket: Path) -> AsyncGenerator[GeneratorClient, None]:
    server = await start(
        f"unix:{socket}",
        "almanac.generator.v1.Generator",
        lambda server: add_GeneratorServicer_to_server(GeneratorServicer(generator), server),
    )
    async with channel(f"unix:{socket}") as line:
        yield GeneratorClient(line)
    await server.stop(1)


def bounded_over(backend: Backend) -> BoundedGenerator:
    return BoundedGenerator(backend, Limits(max_tokens=400, queue=16), NAMED)


@pytest_asyncio.fixture(params=["in process", pytest.param("gRPC", marks=pytest.mark.slow)], loop_scope="module")
async def generator(
    request: pytest.FixtureRequest, backend: Backend, tmp_path: Path
) -> AsyncGenerator[ManagedGenerator, None]:
    bounded = bounded_over(backend)
    if request.param == "in process":
        yield bounded
    else:
        async with served(bounded, tmp_path / "s") as client:
            yield client


def soon(backend: Backend) -> float:
    """Seconds; a slot that is free by then was cut off, for its answer takes longer."""
    if backend.slots == SLOTS["vllm"]:
        return 8.0
    return 1.8 if isinstance(backend, MemoryBackend) else 4.0


def prompt(text: str = STORY, **how: object) -> Prompt:
    return Prompt(**{"tenant": "a", "messages": (Message("user", text),), "max_tokens": 16, **how})  # type: ignore[arg-type]


async def chunks_of(generator: ManagedGenerator, asked: Prompt) -> list[Chunk]:
    return [chunk async for chunk in generator.generate(asked)]


async def text_of(generator: ManagedGenerator, asked: Prompt) -> str:
    return "".join(chunk.text for chunk in await chunks_of(generator, asked))


async def occupy(generator: ManagedGenerator, slots: int, chunks: int = 3) -> list[AsyncGenerator[Chunk, None]]:
    """Take every slot with answers long enough to outlast a test, each `chunks` in."""
    running = [generator.generate(prompt(f"{number}. {STORY * 5}", max_tokens=400)) for number in range(slots)]

    async def begin(stream: AsyncGenerator[Chunk, None]) -> None:
        for _ in range(chunks):
            await anext(stream)

    await asyncio.gather(*map(begin, running))
    return running


async def test_text_comes_in_several_chunks_and_the_last_counts(generator: ManagedGenerator) -> None:
    *pieces, last = await chunks_of(generator, prompt())
    assert len([piece for piece in pieces if piece.text]) > 4
    assert not any(piece.finish_reason for piece in pieces)
    written = [piece.completion_tokens for piece in pieces]
    assert written == sorted(written)
    assert 1 <= written[0] <= written[-1] <= 16
    assert {piece.prompt_tokens for piece in pieces} <= {0, last.prompt_tokens}
    assert last.finish_reason == "length"
    assert last.completion_tokens == 16
    assert 16 < last.prompt_tokens < 120


async def test_first_text_comes_long_before_the_last(generator: ManagedGenerator) -> None:
    began = time.monotonic()
    times = [time.monotonic() - began async for chunk in generator.generate(prompt(STORY, max_tokens=64))]
    assert times[1] < times[-1] * 0.7


async def test_the_same_prompt_gives_the_same_text(generator: ManagedGenerator) -> None:
    texts = {await text_of(generator, prompt(max_tokens=24)) for _ in range(3)}
    assert len(texts) == 1


async def test_eight_at_once_all_finish_and_as_many_as_there_are_slots_interleave(
    generator: ManagedGenerator, backend: Backend
) -> None:
    given: list[tuple[int, Chunk]] = []

    async def read(number: int) -> None:
        async for chunk in generator.generate(prompt(f"Count to {number} and say why.", max_tokens=12)):
            given.append((number, chunk))

    await asyncio.gather(*map(read, range(8)))
    for number in range(8):
        mine = [chunk for owner, chunk in given if owner == number]
        assert mine[-1].finish_reason and "".join(chunk.text for chunk in mine)
    first_end = next(place for place, (_, chunk) in enumerate(given) if chunk.finish_reason)
    assert len({owner for owner, _ in given[:first_end]}) >= min(8, backend.slots)


async def test_a_stop_string_ends_the_text_and_is_not_given_out(generator: ManagedGenerator) -> None:
    whole = await text_of(generator, prompt(max_tokens=24))
    mark = whole.split()[4]
    chunks = await chunks_of(generator, prompt(max_tokens=24, stop=(mark,)))
    stopped = "".join(chunk.text for chunk in chunks)
    assert stopped == whole[: whole.index(mark)]
    assert chunks[-1].finish_reason == "stop"


async def test_closing_while_decoding_frees_the_slots(generator: ManagedGenerator, backend: Backend) -> None:
    running = await occupy(generator, backend.slots)
    waiting = asyncio.create_task(text_of(generator, prompt("Hi.", max_tokens=1)))
    done, _ = await asyncio.wait([waiting], timeout=0.15)
    assert not done
    began = time.monotonic()
    for stream in running:
        await stream.aclose()
    closed = time.monotonic() - began
    await waiting
    assert closed < 0.2
    assert time.monotonic() - began < soon(backend)


async def test_cancelling_the_task_frees_the_slots(generator: ManagedGenerator, backend: Backend) -> None:
    tasks = [asyncio.create_task(text_of(generator, prompt(STORY * 8, max_tokens=400))) for _ in range(backend.slots)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    began = time.monotonic()
    await text_of(generator, prompt("Hi.", max_tokens=1))
    assert time.monotonic() - began < soon(backend)


async def test_closing_while_waiting_for_a_slot_leaves_the_slots_intact(
    generator: ManagedGenerator, backend: Backend
) -> None:
    running = await occupy(generator, backend.slots)
    waiting = asyncio.create_task(text_of(generator, prompt("Hi.", max_tokens=1)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    for stream in running:
        await stream.aclose()
    answers = await asyncio.gather(*(text_of(generator, prompt(max_tokens=2)) for _ in range(backend.slots * 2)))
    assert all(answers)


async def test_a_prompt_longer_than_the_window_is_refused(generator: ManagedGenerator) -> None:
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


async def test_the_model_is_listed_with_the_adapters_that_the_tenant_may_name(generator: ManagedGenerator) -> None:
    assert (await generator.models("a"))[1:] == ["plain", "fancy"]
    assert (await generator.models("b"))[1:] == ["plain", "fancy", "secret"]


async def test_an_adapter_not_served_and_one_of_another_tenant_are_not_found(generator: ManagedGenerator) -> None:
    told = set()
    for name in ("none", "secret"):
        with pytest.raises(ModelNotFound, match="plain, fancy") as refused:
            await text_of(generator, prompt(adapter=name))
        told.add(refused.value.detail.replace(name, "X"))
        for act in (generator.load, generator.unload):
            with pytest.raises(ModelNotFound):
                await act("a", name)
    assert len(told) == 1, "the two must not be told apart"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["llamacpp", "vllm"], indirect=True)
async def test_two_adapters_give_different_texts_side_by_side(generator: ManagedGenerator) -> None:
    asked = [prompt(adapter=name, tenant="b") for name in ("", *ADAPTERS)]
    alone = [await text_of(generator, one) for one in asked]
    assert len(set(alone)) == len(asked)
    again = await asyncio.gather(*(text_of(generator, one) for one in asked))
    assert len(set(again)) == len(asked)


@pytest.mark.parametrize("backend", ["memory", "vllm"], indirect=True)
async def test_an_adapter_is_loaded_on_demand_pinned_and_unloaded(generator: ManagedGenerator) -> None:
    for name in ADAPTERS:
        await generator.unload("b", name)
    assert await generator.adapters("a") == [Adapter("plain"), Adapter("fancy")]
    await text_of(generator, prompt(adapter="plain"))
    await generator.load("a", "fancy", pinned=True)
    assert await generator.adapters("a") == [Adapter("plain", loaded=True), Adapter("fancy", loaded=True, pinned=True)]
    with pytest.raises(Conflict, match="fancy"):
        await generator.load("a", "plain", pinned=True)
    for name in ("plain", "fancy"):
        await generator.unload("a", name)
    assert await generator.adapters("a") == [Adapter("plain"), Adapter("fancy")]
    assert await text_of(generator, prompt(adapter="fancy"))


@pytest.mark.parametrize("backend", ["memory", "vllm"], indirect=True)
async def test_an_adapter_in_use_is_not_unloaded(generator: ManagedGenerator) -> None:
    async with aclosing(generator.generate(prompt(STORY * 5, adapter="plain", max_tokens=400))) as chunks:
        await anext(chunks)
        with pytest.raises(Conflict, match="in use"):
            await generator.unload("a", "plain")
    await asyncio.sleep(0.1)
    await generator.unload("a", "plain")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openai"], indirect=True)
async def test_an_engine_that_keeps_its_adapters_says_so(generator: ManagedGenerator) -> None:
    await generator.load("a", "plain", pinned=True)
    assert await generator.adapters("a") == [Adapter(name, loaded=True, pinned=True) for name in ("plain", "fancy")]
    with pytest.raises(Conflict, match="restart"):
        await generator.unload("a", "plain")


async def test_an_answer_ends_at_the_deadline(generator: ManagedGenerator) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded), deadline(0.5):
        await text_of(generator, prompt(STORY * 5, max_tokens=400))
    assert 0.45 < time.monotonic() - began < 1.0


@pytest.mark.slow
async def test_a_seed_and_a_temperature_give_the_same_text(generator: ManagedGenerator, backend: Backend) -> None:
    texts = [await text_of(generator, prompt(temperature=0.9, seed=seed)) for seed in (7, 7, 8)]
    assert texts[0] == texts[1]
    assert texts[1] != texts[2] or backend.model == "memory"


async def test_stats_tell_how_many_run_and_wait(generator: ManagedGenerator, backend: Backend) -> None:
    running = await occupy(generator, backend.slots)
    waiting = asyncio.create_task(text_of(generator, prompt("Hi.", max_tokens=1)))
    began = time.monotonic()
    while (stats := await generator.stats()).waiting != 1:
        assert time.monotonic() - began < 8, stats
        await asyncio.sleep(0.05)
    assert stats.running == backend.slots
    for stream in running:
        await stream.aclose()
    await waiting


async def test_the_model_is_named_first(generator: ManagedGenerator) -> None:
    assert (await generator.models())[0] in {"memory", "SmolLM2-135M-Instruct"}


async def test_a_full_queue_refuses_and_a_place_freed_admits() -> None:
    generator = BoundedGenerator(MemoryBackend(slots=2, pace=50), Limits(queue=0))
    running = await occupy(generator, 2, chunks=1)
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


CONTEXT = "The harbour of Dunmore was rebuilt in the year 1847 by the keeper of the lights. " * 12


@pytest_asyncio.fixture(params=PARAMS[1:], loop_scope="module")
async def caching(request: pytest.FixtureRequest) -> AsyncGenerator[Backend, None]:
    """Backends that keep what they computed of a prompt."""
    if request.param == "vllm":
        yield request.getfixturevalue("vllm")
        return
    llama = request.getfixturevalue("llama")
    openai = request.param == "openai"
    made = over_http(llama, cache_prompt=True) if openai else over_llama(llama, generator_prefix_cache=True)
    yield made
    await made.close()


@pytest.mark.slow
async def test_a_repeated_context_is_not_computed_again(caching: Backend) -> None:
    generator = bounded_over(caching)
    before = await generator.stats()
    # Two backends ask one llama.cpp, which remembers what the first has asked. It keeps nothing of a request that was
    # told to use nothing, as the first one of a tenant in a slot is, nor of one whose place it gave away meanwhile.
    context = f"{type(caching).__name__}: {CONTEXT}"
    cold, *later = [
        (await chunks_of(generator, prompt(f"{context} {asked}", max_tokens=2)))[-1]
        for asked in ("When was it rebuilt?", "By whom?", "Who rebuilt it?", "Why?", "With what?")
    ]
    warm = max(later, key=lambda chunk: chunk.cached_tokens)
    after = await generator.stats()
    assert cold.cached_tokens < 0.2 * cold.prompt_tokens
    assert warm.cached_tokens > 0.8 * warm.prompt_tokens
    assert after.prefix_queries - before.prefix_queries >= cold.prompt_tokens + warm.prompt_tokens
    assert after.prefix_hits - before.prefix_hits >= warm.cached_tokens


@pytest.mark.slow
@pytest.mark.parametrize("caching", ["llamacpp", "vllm"], indirect=True)
async def test_one_tenants_cache_never_serves_another(caching: Backend) -> None:
    generator = bounded_over(caching)
    context = CONTEXT.replace("Dunmore", "Aberlour")
    for tenant in ("a", "b"):
        last = (await chunks_of(generator, prompt(context, tenant=tenant, max_tokens=2)))[-1]
        assert last.cached_tokens < 0.2 * last.prompt_tokens


async def test_llamacpps_own_port_lets_in_only_who_has_the_key(llama: Any) -> None:
    async with httpx.AsyncClient(base_url=llama.listening_address) as client:
        assert (await client.get("/slots")).status_code == 401
        assert (await client.get("/slots", headers={"Authorization": f"Bearer {KEY}"})).status_code == 200


async def test_cancelled_answers_give_vllms_blocks_back(vllm: Backend) -> None:
    generator = bounded_over(vllm)
    running = await occupy(generator, vllm.slots)
    held = (await generator.stats()).kv_usage
    for stream in running:
        await stream.aclose()
    async with aclosing(generator.generate(prompt("Hi.", max_tokens=4))) as chunks:
        await anext(chunks)
        await anext(chunks)
        alone = await generator.stats()
    assert alone.running == 1
    assert 0 < alone.kv_usage < held / 4


async def test_an_adapter_that_vllm_cannot_read_fails_alone(vllm: Backend) -> None:
    entries = {"broken": AdapterEntry(source="-")}
    generator = BoundedGenerator(vllm, Limits(max_tokens=400), entries)
    with pytest.raises(Unavailable, match="broken"):
        await text_of(generator, prompt(adapter="broken"))
    assert await text_of(generator, prompt())


async def test_vllms_adapters_come_and_go_as_the_policy_says(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "fancy"):
        await vllm.adapters.unload(name)
    keeper = Keeper(KeepAlive(0.05), budget=1)
    held = OnDemand(vllm._load, vllm._unload, keeper=keeper, sizes={"plain": 1, "fancy": 1})
    monkeypatch.setattr(vllm, "_adapters", held)
    generator = bounded_over(vllm)
    texts = await asyncio.gather(*(text_of(generator, prompt(adapter="plain")) for _ in range(3)))
    assert held.show("plain").loads == 1
    numbers = {name: vllm._loras[name].lora_int_id for name in ("plain", "fancy")}
    assert set(await vllm._engine.list_loras()) == {numbers["plain"]}
    assert await text_of(generator, prompt(adapter="fancy")) not in texts
    assert set(await vllm._engine.list_loras()) == {numbers["fancy"]}, "there is room for one"
    await asyncio.sleep(0.1)
    await held.tick()
    assert set(await vllm._engine.list_loras()) == set()


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
