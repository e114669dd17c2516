"""Adaptive batching: 32 callers with a question each, against the same calls one by one and against one offline batch.

The callers reach encoder processes over gRPC, as the stack does: one as it is by default, one with batches of a single
text. The offline side has the engine to itself in one process: no calls, all texts known before, sorted by length. The
sides take turns, and each figure is the median of the rounds. `engine_gain` is what batches gain in the engine alone,
offline over one text at a time there: what the callers' gain cannot exceed by more than the calls' own cost.
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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import Figures, data_file, parser, publish
from pipelines.evaluation import Targets
from services.common.batches import batched
from services.common.clients.encoder import EncoderClient
from services.common.models import ModelKind, find, load_manifest
from services.common.nodes.encoder import TextKind
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.encoder.backends import choose
from services.encoder.backends.base import LoadedModel, Tokens
from services.encoder.settings import EncoderSettings

TARGETS: Targets = {"over_unbatched": {"min": 3.0}, "of_offline": {"min": 0.9}}
QUESTIONS = "xquad.en.json"
_SECONDS = 600.0
_WARM_UP = 64
_OFFLINE_TEXTS = 32


def measure(callers: int, count: int, rounds: int) -> Figures:
    """Questions encoded per second on each side. Raises MissingData."""
    texts = _questions(count)
    engine, model = _engine()
    with _process() as together, _process(ALMANAC_ENCODER_BATCH_SIZE="1") as alone:
        sides: dict[str, Callable[[], float]] = {
            "batched": lambda: asyncio.run(_called(together, model, texts, callers)),
            "unbatched": lambda: asyncio.run(_called(alone, model, texts, callers)),
            "offline": lambda: _offline(engine, texts, _OFFLINE_TEXTS),
            "engine_one_by_one": lambda: _offline(engine, texts, 1),
            "one_caller": lambda: asyncio.run(_called(together, model, texts[: count // 4], 1)) * 4,
        }
        seconds = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    each = {name: [round(count / turn[name], 1) for turn in seconds] for name in sides}
    rate = {name: statistics.median(found) for name, found in each.items()}
    return {
        "callers": callers,
        "questions": count,
        "rounds": rounds,
        **{f"{name}_per_second": found for name, found in rate.items()},
        "over_unbatched": round(_ratio(each, "batched", "unbatched"), 2),
        "of_offline": round(_ratio(each, "batched", "offline"), 3),
        "engine_gain": round(_ratio(each, "offline", "engine_one_by_one"), 2),
        "each": each,
    }


def _ratio(each: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the rounds' ratios, so that a machine that gets slower meanwhile does not count."""
    return statistics.median(a / b for a, b in zip(each[one], each[other], strict=True))


def _questions(count: int) -> list[str]:
    articles = json.loads(data_file(QUESTIONS).read_text())["data"]
    found = [qa["question"] for article in articles for part in article["paragraphs"] for qa in part["qas"]]
    return list(dict.fromkeys(found))[:count]


def _engine() -> tuple[LoadedModel, str]:
    settings = EncoderSettings()
    model = find(load_manifest(settings.models_manifest), settings.encoder_model, ModelKind.ENCODER)
    return choose(settings).load(model), model.name


def _offline(engine: LoadedModel, texts: Sequence[str], size: int) -> float:
    started = time.perf_counter()
    tokens: list[Tokens] = sorted(engine.tokenize(texts), key=len)
    for batch in batched(tokens, size):
        engine.embed(batch)
    return time.perf_counter() - started


@contextmanager
def _process(**settings: str) -> Iterator[str]:
    """An encoder process of its own; its address."""
    with tempfile.TemporaryDirectory(prefix="almanac-encoder-") as home:
        address = f"unix:{home}/encoder.sock"
        env = {**os.environ, "ALMANAC_HOME": home, "ALMANAC_ENCODER_ADDRESS": address, **settings}
        with Path(home, "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "services.encoder"], env=env, stdout=log, stderr=log)
        try:
            _wait(process, Path(home))
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], home: Path) -> None:
    until = time.monotonic() + 60
    while not (home / "encoder.sock").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the encoder did not start: {(home / 'log').read_text()[-2000:]}")
        time.sleep(0.05)


async def _called(address: str, model: str, texts: Sequence[str], callers: int) -> float:
    """Seconds until the callers have had every text encoded, each asking for its next when it has its last."""
    async with channel(address) as line:
        encoder = EncoderClient(line)
        with deadline(_SECONDS):
            await _each(encoder, model, texts[:_WARM_UP], callers)
            started = time.perf_counter()
            await _each(encoder, model, texts, callers)
            return time.perf_counter() - started


def _each(encoder: EncoderClient, model: str, texts: Sequence[str], callers: int) -> Awaitable[list[None]]:
    waiting = iter(texts)

    async def caller() -> None:
        for text in waiting:
            await encoder.encode(model, TextKind.QUERY, [text])

    return asyncio.gather(*(caller() for _ in range(callers)))


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--callers", type=int, default=32, help="concurrent callers, one question at a time each")
    options.add_argument("--questions", type=int, default=1024, help="how many different questions they have")
    options.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    chosen = options.parse_args()
    return publish("encoding", TARGETS, chosen.json, lambda: measure(chosen.callers, chosen.questions, chosen.rounds))


if __name__ == "__main__":
    sys.exit(main())
