"""The processes that searches are compared with: started on SciFact in files, asked by lines (see `threaded`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.common import ROOT, Figures
from benchmarks.scifact import SciFact

REQUIREMENTS = ROOT / "benchmarks" / "haystack.txt"
ENVIRONMENT = ROOT / ".venv-haystack"
_INSTALL_SECONDS = 900


class CannotRun(Exception):
    """A side of the comparison does not run here; says why."""


@dataclass(frozen=True)
class Rival:
    """A process that searches on command."""

    commands: IO[str]
    answers: IO[str]

    def load(self, clients: int, seconds: float) -> Figures:
        """`per_second`, and the milliseconds of each search. Raises CannotRun where the process has ended."""
        self.commands.write(f"{clients} {seconds}\n")
        self.commands.flush()
        return answer(self.answers)


def answer(lines: IO[str]) -> Figures:
    line = lines.readline()
    if not line:
        raise CannotRun("it ended; what it said is on standard error")
    found: Figures = json.loads(line)
    return found


def write(data: SciFact, directory: Path) -> None:
    """The data as `benchmarks.threaded` reads it."""
    (directory / "passages.json").write_text(json.dumps([one.text for one in data.passages]))
    (directory / "queries.json").write_text(json.dumps(list(data.queries.values())))
    np.save(directory / "passages.npy", data.passage_vectors)
    np.save(directory / "queries.npy", data.query_vectors)


@contextmanager
def bare_engine(data: SciFact) -> Iterator[Rival]:
    with _running(data, [sys.executable, "-m", "benchmarks.rival_engine"]) as rival:
        yield rival


@contextmanager
def haystack(data: SciFact) -> Iterator[Rival]:
    """Raises CannotRun where it cannot be installed."""
    with _running(data, [str(_installed()), "-m", "benchmarks.rival_haystack"]) as rival:
        yield rival


@contextmanager
def _running(data: SciFact, command: Sequence[str]) -> Iterator[Rival]:
    with tempfile.TemporaryDirectory(prefix="almanac-rival-") as inside:
        write(data, Path(inside))
        process = subprocess.Popen(
            [*command, inside],
            cwd=ROOT,
            env={**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin and process.stdout
        try:
            answer(process.stdout)  # it is ready
            yield Rival(process.stdin, process.stdout)
        finally:
            process.kill()
            process.communicate()


def _installed() -> Path:
    """The interpreter of the environment, made anew where its requirements have changed."""
    python, done = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not done.is_file() or done.read_text() != wanted:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise CannotRun(f"it cannot be installed: {error}: {str(error.stderr)[-500:]}") from None
        done.write_text(wanted)
    return python
