"""Adaptive batching: 32 callers with a question each, against the same calls one by one and against one offline batch.

The callers reach encoder processes over gRPC, as the stack does, and ask for their next vector as soon as they have
one. *Batched* is the encoder and its client as they are by default: calls share messages, and texts share batches, two
of which are computed side by side. *Unbatched*: every call is a message of its own, and every text a batch of its own,
two at a time there too. The same two then run inside one process, without gRPC. *Offline* has the engine to itself,
with all of its threads: no calls, all texts known before, sorted by length, 32 at a time, as sentence-transformers'
own `encode` does; without lanes, so that the callers' batches may even be ahead of it. Callers, gRPC and engine share
the machine's cores.

The sides take turns, and each ratio is the median of the rounds'. `engine_gain` is what batches gain in the engine
alone, offline over one text at a time there: what the callers' gain cannot exceed by more than the calls' own cost.
ONNX Runtime spends so little beside the tokens that it gains about 2 from batches of questions: `over_unbatched` of 3
is for torch to show. `cpu_ms_per_text` tells where the processor time goes: on a machine whose cores are all the
engine's, what callers and gRPC use is missing there.

`--backend sentence-transformers` is measured in the environment of `make test-torch`:
`.venv-torch/bin/python -m benchmarks.encoding --backend sentence-transformers`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Figures, MissingData, cpu_seconds, data_file, parser, publish
from pipelines.evaluation import Targets
from services.common.batches import batched
from services.common.clients.encoder import FEW, EncoderClient
from services.common.errors import InvalidRequest
from services.common.nodes.encoder import Encoder, TextKind
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.encoder.backends.base import LoadedModel, Tokens
from services.encoder.encoder import ModelEncoder, build
from services.encoder.settings import EncoderSettings

TARGETS: Targets = {"over_unbatched": {"min": 3.0}, "of_offline": {"min": 0.9}}
QUESTIONS = "xquad.en.json"
_SECONDS = 600.0
_WARM_UP = 64
_OFFLINE_TEXTS = 32
_DEFAULT_SIZE = EncoderSettings().encoder_batch_size


MODELS = {"onnx": "all-MiniLM-L6-v2", "sentence-transformers": "all-MiniLM-L6-v2-float32"}
"""The same model, as each backend reads it."""


def measure(backend: str, callers: int, count: int, rounds: int) -> Figures:
    """Questions encoded per second on each side. Raises MissingData."""
    texts, model = _questions(count), MODELS[backend]
    chosen = {"encoder_backend": backend, "encoder_model": model}
    together, alone = (_node(**chosen, encoder_batch_size=size) for size in (_DEFAULT_SIZE, 1))
    engine = asyncio.run(_loaded(together, alone, model))
    with _process(**chosen) as batching, _process(**chosen, encoder_batch_size=1) as single:
        sides: dict[str, Callable[[], Spent]] = {
            "batched": lambda: _remote(batching, model, texts, callers),
            "unbatched": lambda: _remote(single, model, texts, callers, few=0),
            "batched_in_process": lambda: _local(together, model, texts, callers),
            "unbatched_in_process": lambda: _local(alone, model, texts, callers),
            "offline": lambda: _offline(engine, texts, _OFFLINE_TEXTS),
            "engine_one_by_one": lambda: _offline(engine, texts, 1),
            "one_caller": lambda: _remote(batching, model, texts[: count // 4], 1),
        }
        turns = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    together.close()
    alone.close()
    each = {name: [round(turn[name].per_second, 1) for turn in turns] for name in sides}
    return {
        "backend": backend,
        "model": model,
        "callers": callers,
        "questions": count,
        "rounds": rounds,
        **{f"{name}_per_second": statistics.median(found) for name, found in each.items()},
        "over_unbatched": round(_ratio(each, "batched", "unbatched"), 2),
        "of_offline": round(_ratio(each, "batched", "offline"), 3),
        "in_process_over_unbatched": round(_ratio(each, "batched_in_process", "unbatched_in_process"), 2),
        "in_process_of_offline": round(_ratio(each, "batched_in_process", "offline"), 3),
        "engine_gain": round(_ratio(each, "offline", "engine_one_by_one"), 2),
        "cpu_ms_per_text": {name: round(_cpu(turn[name] for turn in turns), 2) for name in sides},
        "each": each,
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """What some texts took; `cpu_seconds` of every process that had a part in it."""

    texts: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.texts / self.seconds


def _cpu(turns: Iterable[Spent]) -> float:
    """Milliseconds of processor time a text, the median of the rounds."""
    return statistics.median(turn.cpu_seconds / turn.texts * 1e3 for turn in turns)


def _ratio(each: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the rounds' ratios, so that a machine that gets slower meanwhile does not count."""
    return statistics.median(a / b for a, b in zip(each[one], each[other], strict=True))


def _questions(count: int) -> list[str]:
    articles = json.loads(data_file(QUESTIONS).read_text())["data"]
    found = [qa["question"] for article in articles for part in article["paragraphs"] for qa in part["qas"]]
    return list(dict.fromkeys(found))[:count]


def _node(**settings: Any) -> ModelEncoder:
    """Raises MissingData where the backend is not installed here."""
    try:
        return build(EncoderSettings(**settings))
    except InvalidRequest as error:
        raise MissingData(f"{error.detail}; `make test-torch` makes .venv-torch, which has it") from error


async def _loaded(together: ModelEncoder, alone: ModelEncoder, model: str) -> LoadedModel:
    await alone.load(model)
    return await together.load(model)


def _offline(engine: LoadedModel, texts: Sequence[str], size: int) -> Spent:
    with _spending(len(texts)) as spent:
        tokens: list[Tokens] = sorted(engine.tokenize(texts), key=len)
        for batch in batched(tokens, size):
            engine.embed(batch)
    return spent()


@contextmanager
def _spending(texts: int, *pids: int) -> Iterator[Callable[[], Spent]]:
    """Times this process, and counts the processor time of others."""
    cpu, began = time.process_time() + sum(map(cpu_seconds, pids)), time.perf_counter()
    taken: list[float] = []
    yield lambda: Spent(texts, *taken)
    taken += [time.perf_counter() - began, time.process_time() + sum(map(cpu_seconds, pids)) - cpu]


@dataclass(frozen=True, slots=True)
class _Remote:
    address: str
    pid: int


@contextmanager
def _process(**settings: object) -> Iterator[_Remote]:
    """An encoder process of its own."""
    with tempfile.TemporaryDirectory(prefix="almanac-encoder-") as home:
        address = f"unix:{home}/encoder.sock"
        given = {f"ALMANAC_{name.upper()}": str(value) for name, value in settings.items()}
        env = {**os.environ, "ALMANAC_HOME": home, "ALMANAC_ENCODER_ADDRESS": address, **given}
        with Path(home, "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "services.encoder"], env=env, stdout=log, stderr=log)
        try:
            _wait(process, Path(home))
            yield _Remote(address, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], home: Path) -> None:
    until = time.monotonic() + 120
    while not (home / "encoder.sock").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the encoder did not start: {(home / 'log').read_text()[-2000:]}")
        time.sleep(0.05)


def _remote(encoder: _Remote, model: str, texts: Sequence[str], callers: int, few: int = FEW) -> Spent:
    async def called() -> Spent:
        async with channel(encoder.address) as line:
            return await _called(EncoderClient(line, few), model, texts, callers, encoder.pid)

    return asyncio.run(called())


def _local(encoder: Encoder, model: str, texts: Sequence[str], callers: int) -> Spent:
    return asyncio.run(_called(encoder, model, texts, callers))


async def _called(encoder: Encoder, model: str, texts: Sequence[str], callers: int, *pids: int) -> Spent:
    """Until the callers have had every text encoded, each asking for its next when it has its last."""
    with deadline(_SECONDS):
        await _each(encoder, model, texts[:_WARM_UP], callers)
        with _spending(len(texts), *pids) as spent:
            await _each(encoder, model, texts, callers)
    return spent()


def _each(encoder: Encoder, model: str, texts: Sequence[str], callers: int) -> Awaitable[list[None]]:
    waiting = iter(texts)

    async def caller() -> None:
        for text in waiting:
            await encoder.encode(model, TextKind.QUERY, [text])

    return asyncio.gather(*(caller() for _ in range(callers)))


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--backend", choices=MODELS, default="onnx", help="what computes the vectors")
    options.add_argument("--callers", type=int, default=32, help="concurrent callers, one question at a time each")
    options.add_argument("--questions", type=int, default=1024, help="how many different questions they have")
    options.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    chosen = options.parse_args()
    given = (chosen.backend, chosen.callers, chosen.questions, chosen.rounds)
    return publish("encoding", TARGETS, chosen.json, lambda: measure(*given))


if __name__ == "__main__":
    sys.exit(main())
