"""The encoder's and the retriever's own processes, filled with SciFact and asked over gRPC."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import scifact
from benchmarks.common import ROOT, Figures
from benchmarks.scifact import SciFact
from services.common.clients.encoder import EncoderClient
from services.common.clients.retriever import RetrieverClient
from services.common.nodes.encoder import TextKind
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Changes, Query, Target
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.common.settings import Settings

GENERATION = "g1"
_BEST = 10
_START_SECONDS = 60.0
_BUILD_SECONDS = 300.0
_CALL_SECONDS = 60.0


@dataclass(frozen=True)
class Nodes:
    """Both processes, the retriever holding the data in one generation."""

    settings: Settings
    data: SciFact

    def load(self, clients: int, seconds: float, encode: bool) -> Figures:
        """`per_second`, and the milliseconds of each step and of each of the retriever's stages."""
        return asyncio.run(self._load(clients, seconds, encode))

    async def _load(self, clients: int, seconds: float, encode: bool) -> Figures:
        async with channel(self.settings.encoder_address) as one, channel(self.settings.retriever_address) as two:
            asking = _Asking(self, EncoderClient(one) if encode else None, RetrieverClient(two))
            with deadline(seconds + _CALL_SECONDS):
                return await asking.load(clients, seconds)

    async def fill(self, funnel: Funnel) -> None:
        """Apply all passages and wait until they are built in."""
        async with channel(self.settings.retriever_address) as line:
            retriever = RetrieverClient(line)
            with deadline(_BUILD_SECONDS):
                await retriever.define(GENERATION, funnel)
                await retriever.apply(GENERATION, scifact.stretch(), _each(self.data.changes()))
                while True:
                    await asyncio.sleep(0.5)
                    standing = await retriever.standing(GENERATION)
                    if standing is None or not standing.building:
                        return


class _Asking:
    """Closed-loop clients: each asks as soon as it has its answer."""

    def __init__(self, nodes: Nodes, encoder: EncoderClient | None, retriever: RetrieverClient) -> None:
        self._nodes = nodes
        self._encoder = encoder
        self._retriever = retriever
        self._queries = list(zip(nodes.data.queries.values(), nodes.data.query_vectors, strict=True))
        self._turn = count()
        self._ms: dict[str, list[float]] = defaultdict(list)

    async def load(self, clients: int, seconds: float) -> Figures:
        for _ in range(3):
            await self._ask()
        self._ms.clear()
        began = time.perf_counter()
        await asyncio.gather(*(self._client(began + seconds) for _ in range(clients)))
        return {"per_second": len(self._ms["search"]) / (time.perf_counter() - began), "ms": dict(self._ms)}

    async def _client(self, until: float) -> None:
        while time.perf_counter() < until:
            await self._ask()

    async def _ask(self) -> None:
        text, vector = self._queries[next(self._turn) % len(self._queries)]
        began = time.perf_counter()
        if self._encoder is not None:
            (vector,) = await self._encoder.encode(self._nodes.settings.encoder_model, TextKind.QUERY, [text])
        encoded = time.perf_counter()
        query = Query(scifact.scope(GENERATION), Target.PASSAGES, text, vector, _BEST)
        found = await self._retriever.search(query)
        ended = time.perf_counter()
        stages = {stage.name: stage.ms for stage in found.plan}
        steps = {"search": (ended - began) * 1000, "retrieve": (ended - encoded) * 1000}
        if self._encoder is not None:
            steps["encode"] = (encoded - began) * 1000
        waited = steps["retrieve"] - sum(stages.values())
        for name, ms in {**steps, **stages, "queue_and_call": waited}.items():
            self._ms[name].append(ms)


async def _each(changes: Iterator[Changes]) -> AsyncIterator[Changes]:
    for one in changes:
        yield one


@contextmanager
def running(data: SciFact, funnel: Funnel) -> Iterator[Nodes]:
    """Both processes on a home of their own, the retriever filled and built; ended at the end."""
    with tempfile.TemporaryDirectory(prefix="almanac-load-", ignore_cleanup_errors=True) as home, ExitStack() as stack:
        settings = Settings(home=Path(home))
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        for node in ("encoder", "retriever"):
            stack.enter_context(_process(node, settings))
        nodes = Nodes(settings, data)
        asyncio.run(nodes.fill(funnel))
        yield nodes


@contextmanager
def _process(node: str, settings: Settings) -> Iterator[None]:
    address = getattr(settings, f"{node}_address")
    env = {**os.environ, "ALMANAC_HOME": str(settings.home), f"ALMANAC_{node.upper()}_ADDRESS": address}
    log = settings.home / f"{node}.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", f"services.{node}"]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        _wait(process, Path(address.removeprefix("unix:")), log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"it did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
