"""What an index keeps in memory: by its files, and by the pages of a process that opened and searched it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from services.retriever.backends import open_engine
from services.retriever.settings import RetrieverSettings

LEFT_OUT = ("vectors.bin", "texts.bin", "terms.bin", "vector_storage-coarse/vectors", "vector_storage-coarse/matrix")
"""Files that are read only for the few points of a hit list, or by the next build: full vectors, those of the engine's
own among them, what a row says of itself, and its terms, which are in the postings too."""
CODES = {"edge": ("quantized", "lists.faiss"), "faiss": (".coarse",)}
_SEARCHES = 200


def sizes(directory: Path) -> dict[str, int]:
    """Bytes on disk by kind of file: its path from the segment on, without the parts that are names of one index."""
    found: Counter[str] = Counter()
    for path in directory.rglob("*"):
        if path.is_file():
            kind = re.sub(r"^.*segments/[^/]+/", "", path.relative_to(directory).as_posix())
            found[re.sub(r"payload_index/[^/]*-(\w+)/.*", r"payload_index/\1", kind)] += path.stat().st_blocks * 512
    return dict(found)


def codes(files: dict[str, int], backend: str) -> int:
    return sum(size for name, size in files.items() if any(part in name for part in CODES[backend]))


def probe(backend: str, home: Path) -> dict[str, float]:
    """Bytes a fresh process holds more after opening and searching than before."""
    command = [sys.executable, "-m", "benchmarks.resident", backend, str(home)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    read: dict[str, float] = json.loads(said)
    return read


def mapped(left_out: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of this process in memory: all of them, and those without the pages of files that are left out."""
    total = kept = 0
    counted = True
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counted = not any(part in line for part in left_out)
        elif line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
            total, kept = total + size, kept + size * counted
    return total, kept


def main(backend: str, home: Path) -> dict[str, Any]:
    from benchmarks.funnel_index import DEPTH, GENERATION, SHARES, corpus, queries, query

    asked = queries(corpus(1_000), _SEARCHES)
    engine = open_engine(RetrieverSettings(home=home, retriever_backend=backend))
    before = mapped(LEFT_OUT)
    began = time.perf_counter()
    index = engine.open(GENERATION)
    assert index is not None
    seconds = time.perf_counter() - began
    for share in SHARES.values():
        for vector in asked:
            index.search([(query(vector, share), DEPTH)])
    after = mapped(LEFT_OUT)
    index.close()
    return {"rss": after[0] - before[0], "resident": after[1] - before[1], "open_seconds": round(seconds, 2)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
