"""What benchmarks share: the report on standard output, the data, and a stack of their own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.evaluation import Targets
from services.admin.measure.run import report

Figures = dict[str, Any]
ROOT = Path(__file__).parents[1]
_START_SECONDS = 180
_ALL_ADMITTED = {"ALMANAC_ANSWERS_WITHIN_SECONDS": "0"}
"""However slow the machine is, a benchmark's questions are answered."""


class MissingData(Exception):
    """A file the benchmark needs is not there."""


def data_file(name: str) -> Path:
    """A file of the folder that ALMANAC_DATA names. Raises MissingData."""
    path = Path(os.environ.get("ALMANAC_DATA", ROOT.parent / "shared" / "data")) / name
    if not path.is_file():
        raise MissingData(f"{path} is missing; set ALMANAC_DATA to the folder that holds {name}")
    return path


def parser(about: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    options = argparse.ArgumentParser(description=about)
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return options


def publish(name: str, targets: Targets, as_json: bool, measure: Callable[[], Figures]) -> int:
    """Measure and print; the exit code: 0 if every target is held, 1 if not, 2 if data is missing."""
    # Stopped from outside, the stack is stopped all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        found = report(name, measure(), targets)
    except MissingData as missing:
        print(missing, file=sys.stderr)
        return 2
    print(json.dumps(found) if as_json else _readable(found))
    return 0 if found["holds"] else 1


def _readable(found: Mapping[str, Any]) -> str:
    lines = [line for name, value in found["figures"].items() for line in _lines(name, value)]
    lines += [f"target {name}: {limit}" for name, limit in found["targets"].items()]
    return "\n".join([*lines, f"holds: {found['holds']}"])


def _lines(name: str, value: Any) -> list[str]:
    """A list of rows as a table, anything else as it is."""
    if not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
        return [f"{name}: {value}"]
    cells = [list(value[0]), *([str(cell) for cell in row.values()] for row in value)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"{name}:",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells),
    ]


@dataclass(frozen=True)
class Stack:
    """A stack of processes as `almanac up` starts them."""

    home: Path
    port: int
    env: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pid(self, process: str) -> int:
        state = json.loads((self.home / "run" / "state.json").read_text())
        return int(state["processes"][process]["pid"])

    def peak_kib(self, process: str) -> int:
        """The most memory the process has held so far (VmHWM in proc(5))."""
        status = Path(f"/proc/{self.pid(process)}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    def cpu_seconds(self, process: str) -> float:
        """Processor time the process has used so far."""
        return cpu_seconds(self.pid(process))


def cpu_seconds(pid: int) -> float:
    """Processor time the process has used so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_stack(**settings: str) -> Iterator[Stack]:
    """A fresh stack, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="almanac-benchmark-", ignore_cleanup_errors=True) as home:
        port = free_port()
        env = {**os.environ, "ALMANAC_HOME": home, "ALMANAC_PORT": str(port), **_ALL_ADMITTED, **settings}
        stack = Stack(Path(home), port, env)
        try:
            _almanac(stack, "up", "--detach", "--port", str(port))
            yield stack
        finally:
            _almanac(stack, "down", check=False)


def _almanac(stack: Stack, *arguments: str, check: bool = True) -> None:
    command = [sys.executable, "-m", "services.admin", *arguments]
    done = subprocess.run(
        command, env=dict(stack.env), cwd=ROOT, capture_output=True, text=True, timeout=_START_SECONDS
    )
    if check and done.returncode:
        raise RuntimeError(f"almanac {' '.join(arguments)}: {done.stdout}{done.stderr}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
