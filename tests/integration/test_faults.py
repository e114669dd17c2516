"""Faults between the graph and its nodes: calls end in their time, answers go on as stated, circuits open and close."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from services.common.clients.encoder import EncoderClient
from services.common.clients.features import FeaturesClient
from services.common.clients.generator import GeneratorClient
from services.common.clients.retriever import RetrieverClient
from services.common.errors import AlmanacError, Unavailable
from services.common.metrics import REGISTRY
from services.common.moment import Moment, parse_instant
from services.common.nodes.encoder import TextKind
from services.common.nodes.generator import Message, Prompt
from services.common.nodes.scope import Stretch
from services.common.rpc.circuit import OPEN_AFTER, State
from services.common.rpc.client import channel, healthy
from services.common.rpc.deadlines import deadline
from services.common.rpc.server import start
from services.encoder.server import EncoderServicer
from services.features.server import FeaturesServicer
from services.generator.server import GeneratorServicer
from services.orchestrator.graph import writing
from services.orchestrator.graph.answer import Answer, Event, Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.run import _Answering, answer
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from services.protos.features_pb2_grpc import add_FeaturesServicer_to_server
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server
from services.protos.retriever_pb2_grpc import add_RetrieverServicer_to_server
from services.retriever.server import RetrieverServicer
from tests.fakes.generator import FakeGenerator
from tests.fakes.sample import DOCUMENTED, FACT, GENERATION, sample
from tests.proxy import Fault, Proxy, proxied
from tests.support import free_port

NODES = ("encoder", "retriever", "features", "generator")
MODEL = GENERATION.encoder
QUICKER = 4
"""So much less time than in earnest has each step."""
LATE_SECONDS = 5.0
"""How far beyond its deadline a busy machine may end a call; what hangs, hangs for longer."""
SERVED = {
    "encoder": (EncoderServicer, add_EncoderServicer_to_server, EncoderClient),
    "retriever": (RetrieverServicer, add_RetrieverServicer_to_server, RetrieverClient),
    "features": (FeaturesServicer, add_FeaturesServicer_to_server, FeaturesClient),
    "generator": (GeneratorServicer, add_GeneratorServicer_to_server, GeneratorClient),
}


@dataclass
class Faulty:
    """The nodes behind their proxies."""

    nodes: Nodes
    proxies: dict[str, Proxy]
    recorded: int

    async def ask(self, text: str) -> Answer:
        async def emit(_: Event) -> None:
            pass

        moment = Moment(parse_instant("2020-06-01"), self.recorded)
        return await answer(self.nodes, Question("a", "local", "almanac", text, moment, GENERATION), emit)

    async def encode(self) -> int:
        return len(await self.nodes.encoder.encode(MODEL, TextKind.QUERY, ["a"]))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Nodes, int]:
    """The nodes themselves, and the newest record time."""
    return asyncio.run(sample(tmp_path_factory.mktemp("faults")))


@pytest.fixture
async def faulty(indexed: tuple[Nodes, int], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Faulty]:
    steps = _Answering.steps
    monkeypatch.setattr(
        _Answering, "steps", lambda self: tuple(replace(step, seconds=step.seconds / QUICKER) for step in steps(self))
    )
    monkeypatch.setattr(writing, "GENERATE_SECONDS", writing.GENERATE_SECONDS / 10)
    monkeypatch.setattr(writing, "NAME_SECONDS", 1.0)
    nodes, recorded = indexed
    async with AsyncExitStack() as stack:
        proxies, clients = {}, {}
        for name, (servicer, register, client) in SERVED.items():
            address = f"127.0.0.1:{free_port()}"
            behind = servicer(getattr(nodes, name))
            server = await start(
                address, f"almanac.{name}.v1", lambda one, behind=behind, register=register: register(behind, one)
            )
            stack.push_async_callback(server.stop, None)
            proxies[name] = await stack.enter_async_context(proxied(address))
            clients[name] = client(await stack.enter_async_context(channel(proxies[name].address)))
        yield Faulty(replace(nodes, **clients), proxies, recorded)


async def ended(work: Awaitable[Any], seconds: float) -> tuple[Any, float]:
    """What it gave, an error of ours being something given, and after how long. Fails where it hangs."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds + LATE_SECONDS):
            found = await work
    except AlmanacError as error:
        found = error
    return found, time.monotonic() - began


async def until(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.1)


def figure(name: str, node: str = "encoder", **labels: str) -> float:
    return REGISTRY.get_sample_value(f"almanac_circuit_{name}", {"node": node, **labels}) or 0.0


async def test_without_a_fault_nothing_is_degraded(faulty: Faulty) -> None:
    found = await faulty.ask(DOCUMENTED)
    assert found.degraded == () and "Planck" in found.answer
    assert (await faulty.ask(FACT)).answer == "Burj Khalifa"
    assert all(proxy.accepted == 1 for proxy in faulty.proxies.values())


async def test_what_is_slow_or_lossy_within_its_time_degrades_nothing(faulty: Faulty) -> None:
    for fault, seconds in ((Fault.DELAY, 0.05), (Fault.LOSS, 0.2)):
        for proxy in faulty.proxies.values():
            await proxy.spoil(fault, seconds)
        assert (await faulty.ask(DOCUMENTED)).degraded == (), fault
        assert (await faulty.ask(FACT)).answer == "Burj Khalifa"


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.REFUSED, Fault.DELAY])
@pytest.mark.parametrize("node", NODES)
async def test_a_node_behind_a_fault_is_done_without_in_time(faulty: Faulty, node: str, fault: Fault) -> None:
    text = FACT if node == "features" else DOCUMENTED
    await faulty.ask(text)
    await faulty.proxies[node].spoil(fault, 60.0)
    steps = sum(step.seconds for step in _Answering(None, None, None, "").steps())
    found, _ = await ended(faulty.ask(text), steps)
    if node == "retriever":
        assert isinstance(found, Unavailable)
        fact, _ = await ended(faulty.ask(FACT), steps)
        assert fact.answer == "Burj Khalifa" and fact.degraded == ("retriever",)
    else:
        assert found.degraded == (node,)
        assert {citation.kind for citation in found.citations} == {"passage"}


def calls(nodes: Nodes) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One call of each shape: one and one, one and many, many and one."""

    async def generate() -> None:
        prompt = Prompt("local", [Message("user", "say it")], 64)
        async with aclosing(nodes.generator.generate(prompt)) as chunks:
            async for _ in chunks:
                pass

    async def batches() -> AsyncIterator[list[Any]]:
        yield []

    def append() -> Awaitable[Any]:
        return nodes.features.append("facts", Stretch("local", "almanac", 0, 1), batches())

    def encode() -> Awaitable[Any]:
        return nodes.encoder.encode(MODEL, TextKind.QUERY, ["a"])

    return {"encoder": encode, "generator": generate, "features": append}


async def answering(call: Callable[[], Awaitable[Any]]) -> None:
    """Until the node answers again, one way or the other."""

    async def answered() -> bool:
        return not isinstance((await ended(call(), 30))[0], Unavailable)

    await until(answered, 30)


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.REFUSED, Fault.DELAY])
async def test_every_shape_of_call_ends_with_its_deadline(faulty: Faulty, fault: Fault) -> None:
    for connected in (False, True):
        for node, call in calls(faulty.nodes).items():
            if connected:
                await faulty.proxies[node].spoil(Fault.NONE)
                await answering(call)
            await faulty.proxies[node].spoil(fault, 60.0)
            with deadline(0.5):
                found, took = await ended(call(), 0.5)
            assert isinstance(found, AlmanacError), (node, connected)
            assert took < 0.5 + LATE_SECONDS


async def test_a_stream_that_falls_silent_in_the_middle_ends_with_its_deadline(faulty: Faulty) -> None:
    generator: FakeGenerator = FakeGenerator("word " * 2000, pace=20)
    address = f"127.0.0.1:{free_port()}"
    server = await start(
        address, "almanac.generator.v1", lambda one: add_GeneratorServicer_to_server(GeneratorServicer(generator), one)
    )
    pieces = 0

    async def listen(client: GeneratorClient, proxy: Proxy) -> None:
        nonlocal pieces
        with deadline(2.0):
            async with aclosing(client.generate(Prompt("local", [Message("user", "?")], 2000))) as chunks:
                async for _ in chunks:
                    pieces += 1
                    if pieces == 3:
                        await proxy.spoil(Fault.SILENT)

    async with proxied(address) as proxy, channel(proxy.address) as line:
        found, took = await ended(listen(GeneratorClient(line), proxy), 2.0)

        async def idle() -> bool:
            return generator.decoding == 0

        await until(idle, LATE_SECONDS)
    await server.stop(None)
    assert isinstance(found, AlmanacError) and 3 <= pieces < 30 and took >= 1.5


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.REFUSED])
async def test_a_circuit_opens_spares_the_waiting_and_closes_again(faulty: Faulty, fault: Fault) -> None:
    assert await faulty.encode() == 1
    opened, closed = (figure("changes_total", state=state) for state in ("open", "closed"))
    await faulty.proxies["encoder"].spoil(fault)
    tries = 0
    while figure("state") != State.OPEN:
        tries += 1
        assert tries < 60
        with deadline(0.6):
            found, _ = await ended(faulty.encode(), 0.6)
        assert isinstance(found, AlmanacError)
        await asyncio.sleep(0.02)
    assert tries >= OPEN_AFTER and figure("changes_total", state="open") == opened + 1
    refused = figure("refused_total")
    began = time.monotonic()
    found, _ = await ended(faulty.encode(), 0.0)
    assert isinstance(found, Unavailable) and "tried once a second" in found.detail
    assert time.monotonic() - began < 0.5 and figure("refused_total") == refused + 1
    degraded = await faulty.ask(DOCUMENTED)
    assert degraded.degraded == ("encoder",)
    await faulty.proxies["encoder"].spoil(Fault.NONE)

    async def encodes() -> bool:
        with deadline(2.0):
            return (await ended(faulty.encode(), 2.0))[0] == 1

    await until(encodes, 30)
    assert figure("state") == State.CLOSED
    assert figure("changes_total", state="closed") == closed + 1
    assert (await faulty.ask(DOCUMENTED)).degraded == ()


async def test_an_error_that_the_node_tells_opens_nothing(faulty: Faulty) -> None:
    for _ in range(3 * OPEN_AFTER):
        with pytest.raises(AlmanacError):
            await faulty.nodes.encoder.encode("no such model", TextKind.QUERY, ["a"])
        await asyncio.sleep(0.05)
    assert figure("state") == State.CLOSED and await faulty.encode() == 1


async def test_a_connection_whose_peer_went_without_a_word_is_left(faulty: Faulty) -> None:
    proxy = faulty.proxies["encoder"]
    sooner = [
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_timeout_ms", 1_000),
        ("grpc.http2.ping_timeout_ms", 1_000),
    ]
    async with channel(proxy.address, *sooner) as line:
        client = EncoderClient(line)
        await client.encode(MODEL, TextKind.QUERY, ["a"])
        await proxy.abandon()

        async def encodes() -> bool:
            with deadline(0.5):
                found, _ = await ended(client.encode(MODEL, TextKind.QUERY, ["a"]), 0.5)
            return not isinstance(found, AlmanacError)

        assert not await encodes(), "the connection at hand is dead"
        await until(encodes, 30)


async def test_a_node_that_is_slow_to_connect_to_is_reached(faulty: Faulty) -> None:
    proxy = faulty.proxies["encoder"]
    await proxy.spoil(Fault.DELAY, 0.4)
    async with channel(proxy.address) as line:
        with deadline(10):
            assert len(await EncoderClient(line).encode(MODEL, TextKind.QUERY, ["a"])) == 1


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.REFUSED, Fault.DELAY])
async def test_a_probe_of_a_node_behind_a_fault_says_no_in_time(faulty: Faulty, fault: Fault) -> None:
    proxy = faulty.proxies["encoder"]
    assert await healthy(proxy.address, 10.0)
    await proxy.spoil(fault, 60.0)
    found, took = await ended(healthy(proxy.address, 0.5), 0.5)
    assert found is False and took < 0.5 + LATE_SECONDS


async def test_a_process_that_is_stopped_and_goes_on_is_left_and_found_again(tmp_path: Path) -> None:
    """SIGSTOP is a true half-open peer: the kernel accepts and acknowledges, and nobody answers."""
    address = f"127.0.0.1:{free_port()}"
    own = {"ALMANAC_HOME": str(tmp_path), "ALMANAC_ENCODER_BACKEND": "memory", "ALMANAC_ENCODER_ADDRESS": address}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.encoder", env={**os.environ, **own}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with channel(address) as line:
            client = EncoderClient(line)

            async def encodes() -> bool:
                with deadline(1.0):
                    found, took = await ended(client.encode(MODEL, TextKind.QUERY, ["a"]), 1.0)
                assert took < 1.0 + LATE_SECONDS
                return not isinstance(found, AlmanacError)

            await until(encodes, 90)
            process.send_signal(signal.SIGSTOP)
            while figure("state") != State.OPEN:
                assert not await encodes()
            assert not await healthy(address, 0.5)
            process.send_signal(signal.SIGCONT)
            await until(encodes, 60)
            assert figure("state") == State.CLOSED
    finally:
        process.kill()
        await process.wait()
