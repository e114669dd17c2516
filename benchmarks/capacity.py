"""What a passage takes on disk and in memory, and a question of each process: the figures of docs/capacity.md.

Passages: SciFact's abstracts with hashed vectors of 384 numbers, the difference between few and all of them, so that
what does not grow is left out. Questions: of xquad, over its own paragraphs with the default models, quoted.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.common import Figures, Stack, data_file, parser, publish, running_stack
from benchmarks.ingest import _ingest_seconds
from pipelines.evaluation import Targets
from services.admin.client import Gateway
from services.catalog.engine import Database
from services.catalog.tables import passages
from services.orchestrator.settings import WorkerSettings

TARGETS: Targets = {}
FEW = 1_000
PROCESSES = ("gateway", "worker", "encoder", "retriever", "features", "generator")


def measure(questions: int) -> Figures:
    return {**_passages(), **_questions(questions)}


def _passages() -> Figures:
    rows = [
        json.loads(line) for line in gzip.decompress(data_file("scifact/corpus.jsonl.gz").read_bytes()).splitlines()
    ]
    rows = [{"id": row["id"], "title": row["title"], "text": row["text"]} for row in rows]
    with running_stack(ALMANAC_ENCODER_BACKEND="memory") as stack:
        _ingest(stack, rows[:FEW], "few")
        before, resident, held = _sizes(stack.home), _resident_kib(stack), _count(stack)
        _ingest(stack, rows[FEW:], "many")
        after, grown, more = _sizes(stack.home), _resident_kib(stack), _count(stack) - held
    return {
        "passages": more,
        **{f"{name}_bytes_a_passage": round((after[name] - before[name]) / more) for name in after},
        "retriever_memory_bytes_a_passage": round((grown - resident) * 1024 / more),
    }


def _count(stack: Stack) -> int:
    catalog = Database(WorkerSettings(home=stack.home).catalog_url)
    with catalog.read() as tx:
        found = tx.execute(select(func.count()).select_from(passages)).scalar_one()
    catalog.close()
    return int(found)


def _ingest(stack: Stack, rows: Sequence[dict[str, str]], collection: str) -> None:
    file = stack.home / f"{collection}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _ingest_seconds(stack, file, collection)
    file.unlink()


def _sizes(home: Path) -> dict[str, int]:
    """Bytes allocated."""
    parts = {
        "catalog": home.glob("catalog.db*"),
        "vectors": (home / "vectors").rglob("*"),
        "index": (home / "index").rglob("*"),
    }
    return {name: sum(path.stat().st_blocks * 512 for path in paths if path.is_file()) for name, paths in parts.items()}


def _resident_kib(stack: Stack) -> int:
    status = Path(f"/proc/{stack.pid('retriever')}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def _questions(count: int) -> Figures:
    paragraphs, asked = _xquad()
    with running_stack() as stack:
        _ingest(stack, paragraphs, "xquad")
        gateway = Gateway(stack.url)

        def ask(text: str) -> dict[str, float]:
            body = {"question": text, "collection": "xquad", "generate": False}
            return dict(gateway.post("/v1/answers", body)["timings_ms"])

        for text in asked[:3]:
            ask(text)
        before, began = _cpu(stack), time.perf_counter()
        steps = [ask(text) for text in asked[3 : 3 + count]]
        seconds, used = time.perf_counter() - began, _cpu(stack)
    return {
        "questions": count,
        "questions_a_second_one_at_a_time": round(count / seconds, 2),
        **{f"{name}_cpu_s_a_question": round((used[name] - before[name]) / count, 4) for name in PROCESSES},
        **{f"{step}_ms": round(statistics.median(one[step] for one in steps if step in one), 1) for step in steps[0]},
    }


def _cpu(stack: Stack) -> dict[str, float]:
    return {name: stack.cpu_seconds(name) for name in PROCESSES}


def _xquad() -> tuple[list[dict[str, str]], list[str]]:
    articles = json.loads(data_file("xquad.en.json").read_text())["data"]
    paragraphs = [one for article in articles for one in article["paragraphs"]]
    rows = [{"id": str(number), "text": one["context"]} for number, one in enumerate(paragraphs)]
    return rows, [one["qas"][0]["question"] for one in paragraphs]


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--questions", type=int, default=60)
    chosen = options.parse_args()
    return publish("capacity", TARGETS, chosen.json, lambda: measure(chosen.questions))


if __name__ == "__main__":
    sys.exit(main())
