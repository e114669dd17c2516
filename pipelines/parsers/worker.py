"""`python -m pipelines.parsers.worker LIMITS`: parses one file after the other, under limits that it sets itself first.

It opens files to read, and can neither write one nor start a process. It ends with its pool: when its input ends, or by
the kernel's alarm in the middle of a file.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.parsers.base import Limits, Unreadable, check_size
from pipelines.parsers.wire import HEADER, frame

OUT_OF_MEMORY = "memory"
_GRACE_SECONDS = 5
_OPEN_FILES = 64


class Worker:
    """Answers requests; keeps the Parquet file it reads stretches of open."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reader: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """`{"ok": ...}`, or `{"error": reason}`, or `{"broken": OUT_OF_MEMORY}` after which the process must end."""
        try:
            return {"ok": getattr(self, request["ask"])(Path(request["path"]), **request["with"])}
        except Unreadable as error:
            return {"error": str(error)}
        except MemoryError:
            return {"broken": OUT_OF_MEMORY}
        except RecursionError:
            return {"error": "nested too deeply"}
        except OSError as error:
            return {"error": f"cannot be read: {error.strerror or error}"}
        except Exception as error:
            return {"error": f"cannot be parsed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"}

    def document(self, path: Path, kind: str) -> dict[str, Any]:
        parsed = import_module(f"pipelines.parsers.{kind}").parse(path, self._limits)
        check_size(parsed.text, self._limits)
        return {"text": parsed.text, "fields": parsed.fields, "pages": parsed.pages}

    def count(self, path: Path) -> int:
        from pipelines.parsers import parquet

        return parquet.count(path)

    def stretch(self, path: Path, start: int) -> Any:
        from pipelines.parsers import parquet

        if self._reader is None or self._reader.path != path or start == 0:
            self._reader = parquet.Reader(path, self._limits)
        reader, self._reader = self._reader, None
        found = reader.stretch(start)
        self._reader = reader
        return found


def confine(limits: Limits) -> None:
    """No more memory, no written file, no process, few open files: for good."""
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def serve(source: BinaryIO, target: int, limits: Limits) -> None:
    """Answer until the input ends or memory has run out."""
    worker = Worker(limits)
    while header := source.read(HEADER.size):
        request = json.loads(source.read(HEADER.unpack(header)[0]))
        _allow(limits.seconds)
        reply = worker.answer(request)
        signal.alarm(0)
        _send(target, frame(reply))
        if "broken" in reply:
            return


def _allow(seconds: float) -> None:
    """The kernel ends the process when its time is up, should the pool be gone."""
    signal.alarm(int(seconds) + _GRACE_SECONDS)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent + seconds) + _GRACE_SECONDS, hard))


def _send(target: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(target, view) :]


def main() -> None:
    limits = Limits(**json.loads(sys.argv[1]))
    target = os.dup(sys.stdout.fileno())
    # What a library prints must not get between the messages.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    confine(limits)
    serve(sys.stdin.buffer, target, limits)


if __name__ == "__main__":
    main()
