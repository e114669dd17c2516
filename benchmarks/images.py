"""What the dependencies of each image take on disk, by its lock: the sizes of the same distributions as installed here.

Without the base image and the models, and without compiled bytecode, which the images do not write. A distribution that
is not installed here at the lock's version is named and not counted.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from benchmarks.common import ROOT, Figures, parser, publish
from pipelines.evaluation import Targets

MIB = 1024 * 1024
TARGETS: Targets = {}
_PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?==(\S+)", re.MULTILINE)
_LARGEST = 3

Installed = dict[tuple[str, str], int]


def pinned(lock: Path) -> list[tuple[str, str]]:
    """Name and version of each distribution of the lock."""
    return [(_normal(name), version) for name, version in _PINNED.findall(lock.read_text())]


def installed() -> Installed:
    """Bytes of every distribution that this interpreter can import."""
    return {(_normal(one.metadata["Name"]), one.version): _bytes(one) for one in distributions()}


def _normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(one: Distribution) -> int:
    files = (Path(str(one.locate_file(file))) for file in one.files or () if file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files if file.is_file())


def code() -> int:
    """Bytes of our own code, as every image holds it."""
    kept = ("services", "pipelines", "feature_repo")
    files = (file for name in kept for file in (ROOT / name).rglob("*") if "__pycache__" not in file.parts)
    return sum(file.stat().st_size for file in files if file.is_file())


def row(lock: Path, known: Installed) -> Figures:
    """One image: how many distributions, their MiB, the largest, and those that are not here."""
    wanted = pinned(lock)
    sizes = {name: known[name, version] for name, version in wanted if (name, version) in known}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST]
    return {
        "image": lock.stem,
        "distributions": len(wanted),
        "mib": round(sum(sizes.values()) / MIB, 1),
        "largest": ", ".join(f"{name} {sizes[name] / MIB:.0f}" for name in largest),
        "not_here": _few([name for name, version in wanted if (name, version) not in known]),
    }


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _LARGEST else str(len(names))


def measure() -> Figures:
    known = installed()
    locks = sorted((ROOT / "infra" / "locks").glob("*.txt"))
    return {"images": [row(lock, known) for lock in locks], "code_mib": round(code() / MIB, 2)}


def main() -> int:
    return publish("images", TARGETS, parser(__doc__ or "").parse_args().json, measure)


if __name__ == "__main__":
    sys.exit(main())
