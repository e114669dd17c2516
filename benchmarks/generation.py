"""Generation: tokens a second and time to first text through our node, against the same engine called bare.

The node is the generator behind its bounds and its gRPC server, asked by its client over a unix socket; bare is the
engine's own interface in the same process. Both have the same loaded model and the same prompts (a paragraph and a
question of xquad), at 1 and at 8 streams, in turns: bare, node, bare, … so that a machine that gets slower meanwhile
does not count. Prefix caches are off, so that every turn does the same work. One process holds all: what client and
server cost is taken from the engine's own time; `cpu_ms_per_token` tells it on a busy machine too (for vLLM, whose
engine is a process of its own, without what the engine uses).

`--backend vllm` is measured in the environment of `make test-vllm`, with a directory or a hub repository as the model:
`.venv-vllm/bin/python -m benchmarks.generation --backend vllm --model DIR`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bare_engines import BARE, Spoken
from benchmarks.common import Figures, data_file, parser, publish
from pipelines.evaluation import Targets
from services.common.clients.generator import GeneratorClient
from services.common.nodes.generator import Generator, Message, Prompt
from services.common.rpc.client import channel
from services.common.rpc.server import start
from services.generator.generator import BoundedGenerator
from services.generator.server import GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.protos.generator_pb2_grpc import add_GeneratorServicer_to_server

TARGETS: Targets = {"share_of_bare_8": {"min": 0.97}}
QUESTIONS = "xquad.en.json"
STREAMS = (1, 8)

Side = Callable[[Prompt], Awaitable[Spoken]]


class Turn(NamedTuple):
    """One side, once: tokens a second over all streams, the median seconds to the first text, and this process's
    processor seconds a token."""

    per_second: float
    first: float
    cpu: float


def measure(settings: GeneratorSettings, rounds: int, requests: int, tokens: int) -> Figures:
    """Both sides at each number of streams. Raises MissingData."""
    return asyncio.run(_measure(settings, rounds, _prompts(requests, tokens)))


async def _measure(settings: GeneratorSettings, rounds: int, prompts: Sequence[Prompt]) -> Figures:
    backend, bare = BARE[settings.generator_backend](settings)
    figures: Figures = {"backend": settings.generator_backend, "model": backend.model, "rounds": rounds}
    async with _node(BoundedGenerator(backend)) as client:
        sides: dict[str, Side] = {"bare": bare, "node": lambda prompt: _through(client, prompt)}
        for streams in STREAMS:
            share = prompts if streams > 1 else prompts[: max(1, len(prompts) // 4)]
            await _turn(bare, share[:streams], streams)
            turns = [{name: await _turn(side, share, streams) for name, side in sides.items()} for _ in range(rounds)]
            figures |= _told(streams, turns, await _turn(bare, share, streams))
    await backend.close()
    return figures


def _told(streams: int, turns: Sequence[Mapping[str, Turn]], last: Turn) -> Figures:
    bare = [*(turn["bare"].per_second for turn in turns), last.per_second]
    node = [turn["node"].per_second for turn in turns]
    shares = [rate / ((bare[place] + bare[place + 1]) / 2) for place, rate in enumerate(node)]
    first = {name: statistics.median(turn[name].first for turn in turns) * 1e3 for name in ("bare", "node")}
    cpu = {name: statistics.median(turn[name].cpu for turn in turns) * 1e3 for name in ("bare", "node")}
    return {
        f"bare_tokens_per_second_{streams}": round(statistics.median(bare), 1),
        f"node_tokens_per_second_{streams}": round(statistics.median(node), 1),
        f"share_of_bare_{streams}": round(statistics.median(shares), 3),
        f"share_of_bare_{streams}_each": [round(share, 3) for share in shares],
        **{f"{name}_first_text_ms_{streams}": round(ms) for name, ms in first.items()},
        **{f"{name}_cpu_ms_per_token_{streams}": round(ms, 2) for name, ms in cpu.items()},
    }


async def _turn(side: Side, prompts: Sequence[Prompt], streams: int) -> Turn:
    """Every prompt once; each stream asks for its next when it has its last."""
    waiting = iter(prompts)
    said: list[Spoken] = []

    async def stream() -> None:
        for prompt in waiting:
            said.append(await side(prompt))

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(stream() for _ in range(streams)))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    tokens = sum(one.tokens for one in said)
    return Turn(tokens / seconds, statistics.median(one.first for one in said), used / tokens)


async def _through(generator: Generator, prompt: Prompt) -> Spoken:
    began, first, tokens = time.perf_counter(), 0.0, 0
    async for chunk in generator.generate(prompt):
        first = first or time.perf_counter() - began
        tokens = chunk.completion_tokens or tokens
    return Spoken(tokens, first)


@asynccontextmanager
async def _node(generator: BoundedGenerator) -> AsyncGenerator[GeneratorClient, None]:
    def register(server: Any) -> None:
        add_GeneratorServicer_to_server(GeneratorServicer(generator), server)  # type: ignore[no-untyped-call]

    with tempfile.TemporaryDirectory(prefix="almanac-generator-") as directory:
        address = f"unix:{directory}/socket"
        server = await start(address, "almanac.generator.v1.Generator", register)
        async with channel(address) as line:
            yield GeneratorClient(line)
        await server.stop(1)


def _prompts(count: int, tokens: int) -> list[Prompt]:
    """A paragraph and its first question each."""
    articles = json.loads(data_file(QUESTIONS).read_text())["data"]
    parts = [part for article in articles for part in article["paragraphs"]]
    asked = [f"{part['context']}\n\nExplain at length: {part['qas'][0]['question']}" for part in parts]
    return [Prompt("benchmark", (Message("user", text),), tokens) for text in islice(cycle(asked), count)]


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--backend", choices=sorted(BARE), default="llamacpp")
    options.add_argument("--model", default=GeneratorSettings().generator_model)
    options.add_argument("--rounds", type=int, default=3, help="how often the two sides take turns")
    options.add_argument("--requests", type=int, default=16, help="answers of a turn; a quarter at one stream")
    options.add_argument("--tokens", type=int, default=64, help="longest answer")
    chosen = options.parse_args()
    settings = GeneratorSettings(
        generator_backend=chosen.backend,
        generator_model=str(Path(chosen.model).resolve()) if Path(chosen.model).is_dir() else chosen.model,
        generator_slots=max(STREAMS),
        generator_prefix_cache=False,
    )
    rounds, requests, tokens = chosen.rounds, chosen.requests, chosen.tokens
    return publish("generation", TARGETS, chosen.json, lambda: measure(settings, rounds, requests, tokens))


if __name__ == "__main__":
    sys.exit(main())
