"""What Almanac costs beside its engines: answers through gateway, Celery and gRPC, against the engines called bare.

Ours is the stack as `almanac up` starts it, from the request to the stream's `done`, as a client sees it that costs
next to nothing itself (benchmarks.http_load; httpx takes 2.4 ms of its own for such a stream). Bare is the same graph
in one process over a copy of the stack's home, its nodes plain objects: no gateway, no broker, no gRPC, no record. Both
get the same questions of xquad in turns and write at most `tokens` tokens; a question whose two texts differ counts as
`different`. The differences are of pairs, their median that of all questions: `through_ms_p50` is ours less bare where
quotes alone answer, so that no slow token hides it; `overhead_ms_p50` is ours less the time in which an engine works,
so the graph's own work too (evidence, grounding, reading the catalog); `overhead_share` is that where the model writes.
`share_of_bare_8` is the generator's throughput at eight streams through its node (benchmarks.generation).
"""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import generation
from benchmarks.common import Figures, Stack, data_file, parser, publish, running_stack
from benchmarks.http_load import connect, events, post
from pipelines.evaluation import Targets
from pipelines.evaluation.squad import load_squad, sample
from services.admin.client import Gateway
from services.admin.measure.answers import ingest_paragraphs
from services.catalog import answers
from services.catalog.engine import Database
from services.common.settings import Settings
from services.encoder.encoder import build as encoder
from services.encoder.settings import EncoderSettings
from services.features.features import build as features
from services.features.settings import FeaturesSettings
from services.generator.generator import build as generator
from services.generator.settings import GeneratorSettings
from services.orchestrator.graph.answer import Event, Question
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.run import answer
from services.retriever.retriever import build as retriever
from services.retriever.settings import RetrieverSettings

TARGETS: Targets = {
    "through_ms_p50": {"max": 15.0},
    "overhead_share": {"max": 0.05},
    "share_of_bare_8": {"min": 0.97},
}
QUESTIONS, TENANT, COLLECTION, SEED = "xquad.en.json", Settings().tenant, "xquad", 7
_WARM_UP = 5
_SECONDS = 120.0
"""Bounds one answer."""


class Told(NamedTuple):
    """An answer's text and the milliseconds it took; `engines`: those in which an engine worked."""

    id: str
    text: str
    ms: float
    engines: float = 0.0


def measure(count: int, tokens: int) -> Figures:
    """Both halves. Raises MissingData."""
    squad = load_squad(data_file(QUESTIONS))
    texts = [question.text for question in sample(squad.questions, count + _WARM_UP, SEED)]
    with running_stack() as stack, tempfile.TemporaryDirectory(prefix="almanac-bare-") as copy:
        ingest_paragraphs(Gateway(stack.url), squad.paragraphs, COLLECTION)
        home = Path(shutil.copytree(stack.home, Path(copy, "home"), ignore=shutil.ignore_patterns("*.sock", "logs")))
        quoted, written = asyncio.run(_pairs(stack, home, texts, tokens))
    generated = generation.measure(_generator(), rounds=3, requests=16, tokens=tokens)
    return {
        "questions": count,
        "tokens": tokens,
        **_told("", quoted),
        **_told("written_", written),
        "overhead_share": round(
            statistics.median((ours.ms - bare.engines) / bare.engines for ours, bare in written), 4
        ),
        "share_of_bare_8": generated["share_of_bare_8"],
        "share_of_bare_8_each": generated["share_of_bare_8_each"],
    }


Pair = tuple[Told, Told]


def _told(name: str, pairs: Sequence[Pair]) -> Figures:
    return {
        f"{name}ours_ms_p50": _median(ours.ms for ours, _ in pairs),
        f"{name}engines_ms_p50": _median(bare.engines for _, bare in pairs),
        f"{name}through_ms_p50": _median(ours.ms - bare.ms for ours, bare in pairs),
        f"{name}overhead_ms_p50": _median(ours.ms - bare.engines for ours, bare in pairs),
        f"{name}different": sum(ours.text != bare.text for ours, bare in pairs),
    }


def _median(ms: Iterable[float]) -> float:
    return round(statistics.median(ms), 2)


def _generator() -> GeneratorSettings:
    return GeneratorSettings(
        generator_backend="llamacpp", generator_slots=max(generation.STREAMS), generator_prefix_cache=False
    )


async def _pairs(stack: Stack, home: Path, texts: Sequence[str], tokens: int) -> tuple[list[Pair], list[Pair]]:
    """Every question on both sides, first by quotes alone, then written by the model; the first few warm both up."""
    async with _bare(home) as bare:
        catalog = Database(Settings(home=stack.home).catalog_url)
        halves = []
        for generate in (False, True):
            pairs = []
            for text in texts:
                ours = await _ask(stack.port, text, generate, tokens)
                pairs.append((ours, await bare(_question(catalog, ours.id))))
            halves.append(pairs[_WARM_UP:])
        catalog.close()
    return halves[0], halves[1]


async def _ask(port: int, text: str, generate: bool, tokens: int) -> Told:
    """On a connection of its own: the gateway closes it after a stream."""
    body = {"question": text, "collection": COLLECTION, "stream": True, "generate": generate, "max_tokens": tokens}
    request, began = post("/v1/answers", body), time.perf_counter()
    async with asyncio.timeout(_SECONDS):
        reader, writer = await connect(port)
        heard = {kind: (data, time.perf_counter()) async for kind, data in events(reader, writer, request)}
        writer.close()
    if "done" not in heard:
        raise RuntimeError(f"{text!r} was not answered: {heard.get('error')}")
    data, ended = heard["done"]
    found = json.loads(data)["answer"]
    if found["degraded"]:
        raise RuntimeError(f"{text!r} was not answered in full: {found['degraded']}")
    return Told(found["id"], found["answer"], (ended - began) * 1000)


def _question(catalog: Database, answer_id: str) -> Question:
    """The very question that the stack was asked: its moment, its generation."""
    with catalog.read() as tx:
        return Question.from_json(answers.stored(tx, TENANT, answer_id).request)


@asynccontextmanager
async def _bare(home: Path) -> AsyncIterator[Callable[[Question], Awaitable[Told]]]:
    clock = _Working()
    encoding, searching = encoder(EncoderSettings(home=home)), retriever(RetrieverSettings(home=home))
    reading, writing = features(FeaturesSettings(home=home)), generator(GeneratorSettings(home=home))
    await writing.start()
    catalog = Database(Settings(home=home).catalog_url)
    nodes = Nodes(catalog, *(_Timed(node, clock) for node in (encoding, searching, reading, writing)))  # type: ignore[arg-type]

    async def nobody(_: Event) -> None:
        return None

    async def told(question: Question) -> Told:
        clock.ms, began = 0.0, time.perf_counter()
        found = await answer(nodes, question, nobody)
        return Told(question.answer_id, found.answer, (time.perf_counter() - began) * 1000, clock.ms)

    yield told
    await writing.close()
    await searching.close()
    encoding.close()
    catalog.close()


@dataclass(slots=True)
class _Working:
    """Milliseconds in which at least one engine works."""

    ms: float = 0.0
    _at_once: int = 0
    _since: float = 0.0

    def begin(self) -> None:
        if not self._at_once:
            self._since = time.perf_counter()
        self._at_once += 1

    def end(self) -> None:
        self._at_once -= 1
        if not self._at_once:
            self.ms += (time.perf_counter() - self._since) * 1000


class _Timed:
    """A node whose every call counts as an engine's work."""

    def __init__(self, node: Any, clock: _Working) -> None:
        self._node, self._clock = node, clock

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._node, name)
        return self._streaming(call) if inspect.isasyncgenfunction(call) else self._waiting(call)

    def _waiting(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timed(*given: Any, **named: Any) -> Any:
            self._clock.begin()
            try:
                return await call(*given, **named)
            finally:
                self._clock.end()

        return timed

    def _streaming(self, call: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
        """The engine works between two chunks too, but what is done with a chunk meanwhile is not waited for."""

        async def timed(*given: Any, **named: Any) -> AsyncGenerator[Any, None]:
            self._clock.begin()
            try:
                async with aclosing(call(*given, **named)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                self._clock.end()

        return timed


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--questions", type=int, default=60, help="how many each side answers, twice")
    options.add_argument("--tokens", type=int, default=32, help="longest answer")
    chosen = options.parse_args()
    return publish("overhead", TARGETS, chosen.json, lambda: measure(chosen.questions, chosen.tokens))


if __name__ == "__main__":
    sys.exit(main())
