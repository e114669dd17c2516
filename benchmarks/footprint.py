"""What an edge index takes: its files by what they hold, and the memory of a process that opens and queries it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import scifact
from benchmarks.common import ROOT, Figures
from benchmarks.scifact import SciFact
from services.common.nodes.retriever import Query, Target, Vectors
from services.retriever.retriever import build
from services.retriever.settings import RetrieverSettings

PARTS = {
    "codes": r"quantized|lists\.faiss",
    "graph": r"vector_index-coarse|id_tracker",
    "full_vectors": r"/vectors\.bin|vector_storage-coarse",
    "bm25": r"\.postings",
    "terms": r"/terms\.bin",
    "rows": r"/(rows|ends|labels)\.bin",
    "texts": r"/texts\.bin",
    "other": "",
}
"""Part → what in a file's path tells it, the first that does. Segment files are named by Qdrant."""
_BLOCK = 512
_ASKED = 100


def on_disk(directory: Path) -> dict[str, int]:
    """Bytes allocated for each part: Qdrant's files have holes, so their sizes say nothing."""
    found: Counter[str] = Counter(dict.fromkeys(PARTS, 0))
    for path in directory.rglob("*"):
        if path.is_file():
            inside = str(path.relative_to(directory))
            part = next(part for part, pattern in PARTS.items() if re.search(pattern, inside))
            found[part] += path.stat().st_blocks * _BLOCK
    return dict(found)


def resident(home: Path, generation: str, data: SciFact) -> Figures:
    """Bytes per passage that a fresh process grows by as it opens the generation and answers queries, the pages of
    mapped files it touched (`mapped`) and its own memory (`anonymous`). The generation must be closed here."""
    with tempfile.TemporaryDirectory() as inside:
        vectors, texts = Path(inside) / "vectors.npy", Path(inside) / "texts.json"
        np.save(vectors, data.query_vectors[:_ASKED])
        texts.write_text(json.dumps(list(data.queries.values())[:_ASKED]))
        command = [sys.executable, "-m", "benchmarks.footprint", str(home), generation, str(vectors), str(texts)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown = json.loads(done.stdout)
    return {f"resident_{kind}": round(size / len(data.passages), 1) for kind, size in grown.items()}


async def _grown(home: Path, generation: str, vectors: Vectors, texts: list[str]) -> dict[str, int]:
    retriever = build(RetrieverSettings(home=home))
    before = _memory()
    for vector, text in zip(vectors, texts, strict=True):
        await retriever.search(Query(scifact.scope(generation), Target.PASSAGES, text, vector, 10))
    after = _memory()
    await retriever.close()
    return {kind: after[kind] - before[kind] for kind in after}


def _memory() -> dict[str, int]:
    """Bytes, from proc(5): VmRSS and its parts."""
    status = Path("/proc/self/status").read_text()
    names = {"total": "VmRSS", "anonymous": "RssAnon", "mapped": "RssFile"}
    rows = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith("kB")}
    return {kind: int(rows[name]) * 1024 for kind, name in names.items()}


def main(home: str, generation: str, vectors: str, texts: str) -> None:
    asked = json.loads(Path(texts).read_text())
    print(json.dumps(asyncio.run(_grown(Path(home), generation, np.load(vectors), asked))))


if __name__ == "__main__":
    main(*sys.argv[1:])
