"""Ingestion against the encoder alone: passages per second through the whole stack, and the worker's memory.

Both sides run on the same texts and the same processes, in turns: encoder, pipeline, encoder, … so that a machine that
gets slower or faster meanwhile does not count. The encoder's side is the fairest there is: the texts in memory, sorted
by length, in calls as large as it takes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Figures, Stack, data_file, parser, publish, running_stack
from pipelines.chunk import chunk
from pipelines.evaluation import Targets
from pipelines.text import token_counter
from services.admin.client import Gateway
from services.admin.jobs import send
from services.catalog import jobs
from services.catalog.engine import Database
from services.common.batches import batched
from services.common.clients.encoder import EncoderClient
from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.nodes.encoder import TextKind
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.orchestrator.settings import WorkerSettings

TARGETS: Targets = {"share_of_encoder": {"min": 0.95}, "memory_growth": {"max": 1.1}}
PAGES = "wiki_pages.jsonl.gz"
FEW, MANY = 32, 318
LARGE_CALL = 1024
WARM_UP = 64
"""Texts encoded before anything is measured."""
_SECONDS = 1200


def measure(pages: int, rounds: int) -> Figures:
    """Everything the report tells. Raises MissingData."""
    lines = gzip.decompress(data_file(PAGES).read_bytes()).splitlines(keepends=True)
    with running_stack() as stack:
        figures = _throughput(stack, lines[:pages], rounds)
    peaks = {count: _peak_mib(lines[:count]) for count in (FEW, MANY)}
    return {
        **figures,
        **{f"worker_peak_mib_{count}_pages": peak for count, peak in peaks.items()},
        "memory_growth": round(peaks[MANY] / peaks[FEW], 3),
    }


def _throughput(stack: Stack, lines: Sequence[bytes], rounds: int) -> Figures:
    texts = _texts(stack, lines)
    file = _written(stack, lines)
    _encoder_seconds(stack, texts[:WARM_UP])
    idle = stack.cpu_seconds("encoder")
    alone = [_encoder_seconds(stack, texts)]
    least = stack.cpu_seconds("encoder") - idle
    through: list[float] = []
    used: dict[str, float] = {}
    for number in range(rounds):
        before = _cpu(stack)
        through.append(_ingest_seconds(stack, file, f"round-{number}", len(texts)))
        used = {name: seconds - before[name] for name, seconds in _cpu(stack).items()}
        alone.append(_encoder_seconds(stack, texts))
        print(
            f"encoder {alone[-2]:.1f} s, pipeline {through[-1]:.1f} s, {alone[-1]:.1f} s; cpu {used}", file=sys.stderr
        )
    shares = [(alone[turn] + alone[turn + 1]) / 2 / seconds for turn, seconds in enumerate(through)]
    return {
        "passages": len(texts),
        "rounds": rounds,
        "encoder_passages_per_second": round(len(texts) / statistics.mean(alone), 2),
        "pipeline_passages_per_second": round(len(texts) / statistics.mean(through), 2),
        "share_of_encoder": round(statistics.median(shares), 3),
        "share_of_encoder_each": [round(share, 3) for share in shares],
        "encoder_alone_cpu_seconds": round(least, 1),
        "cpu_seconds": {name: round(seconds, 1) for name, seconds in used.items()},
    }


def _cpu(stack: Stack) -> dict[str, float]:
    return {name: stack.cpu_seconds(name) for name in ("encoder", "worker", "retriever", "features", "gateway")}


def _settings(stack: Stack) -> WorkerSettings:
    return WorkerSettings(home=stack.home)


def _texts(stack: Stack, lines: Sequence[bytes]) -> list[str]:
    """The passages of the pages, as the pipeline embeds them."""
    settings = _settings(stack)
    model = find(load_manifest(settings.models_manifest), settings.encoder_model, ModelKind.ENCODER)
    count = token_counter(ModelCache(settings.models_dir).path(model))
    size = min(settings.passage_tokens, model.max_tokens)
    rows = [json.loads(line) for line in lines]
    texts = {(row["id"], one.embedded) for row in rows for one in chunk(row["text"], row["title"], count, size)}
    return sorted((text for _, text in texts), key=len)


def _written(stack: Stack, lines: Sequence[bytes]) -> Path:
    file = stack.home / "pages.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def _encoder_seconds(stack: Stack, texts: Sequence[str]) -> float:
    async def encode() -> float:
        settings = _settings(stack)
        async with channel(settings.encoder_address) as line:
            encoder = EncoderClient(line)
            with deadline(_SECONDS):
                started = time.perf_counter()
                for part in batched(texts, LARGE_CALL):
                    await encoder.encode(settings.encoder_model, TextKind.PASSAGE, part)
                return time.perf_counter() - started

    return asyncio.run(encode())


def _ingest_seconds(stack: Stack, file: Path, collection: str, passages: int | None = None) -> float:
    """From the upload's acceptance to the job's end: recorded, indexed, visible."""
    catalog = Database(_settings(stack).catalog_url)
    started = time.perf_counter()
    gateway = Gateway(stack.url)
    (sent,) = send(gateway, "documents", [(file.name, file)], {"collection": collection})
    job = _finished(catalog, sent["id"], started)
    seconds = time.perf_counter() - started
    catalog.close()
    if job.state != jobs.DONE or job.counts.get("failed"):
        raise RuntimeError(f"the job ended {job.state}: {job.error} {list(job.failures)[:3]}")
    if passages is not None and job.counts["encoded"] != passages:
        raise RuntimeError(f"{job.counts['encoded']} passages were encoded, not {passages}: the two sides differ")
    return seconds


def _finished(catalog: Database, job_id: str, started: float) -> jobs.Job:
    while time.perf_counter() - started < _SECONDS:
        with catalog.read() as tx:
            job = jobs.by_id(tx, job_id)
        if job.state in jobs.FINISHED:
            return job
        time.sleep(0.1)
    raise RuntimeError(f"job {job_id} did not end in {_SECONDS} s")


def _peak_mib(lines: Sequence[bytes]) -> float:
    """The worker's peak over one ingestion in a fresh stack. What computes the vectors makes no difference to it."""
    with running_stack(ALMANAC_ENCODER_BACKEND="memory") as stack:
        _ingest_seconds(stack, _written(stack, lines), "pages")
        return round(stack.peak_kib("worker") / 1024, 1)


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--pages", type=int, default=MANY, help="pages of the throughput half")
    options.add_argument("--rounds", type=int, default=1, help="how often pipeline and encoder take turns")
    chosen = options.parse_args()
    return publish("ingest", TARGETS, chosen.json, lambda: measure(chosen.pages, chosen.rounds))


if __name__ == "__main__":
    sys.exit(main())
