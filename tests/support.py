"""A real stack for the tests that need one: its own home, its own port, started and stopped as a user would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import pytest

Found = TypeVar("Found")
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@dataclass
class Stack:
    """A running stack and the ways to use it."""

    home: Path
    port: int
    env: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def almanac(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        command = [sys.executable, "-m", "services.admin", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        assert not check or done.returncode == 0, f"almanac {arguments}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.almanac(*arguments, "--json").stdout)

    def post(self, path: str, body: dict[str, Any], timeout: float = 90) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=timeout, trust_env=False)

    def ask(self, question: str, **fields: Any) -> dict[str, Any]:
        response = self.post("/v1/answers", {"question": question, **fields})
        assert response.status_code == 200, f"{response.text}\n{self.logs()}"
        return response.json()

    def processes(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.home / "run" / "state.json").read_text())["processes"]

    def kill(self, name: str) -> int:
        """SIGKILL a process; returns its pid."""
        pid = int(self.processes()[name]["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, name: str, old: int, seconds: float = 40) -> None:
        """Wait until another process serves under the name."""

        def back() -> bool:
            now = self.processes()[name]
            return now["pid"] not in (0, old) and now["state"] == "ready"

        eventually(back, seconds, f"{name} did not come back\n{self.logs()}")

    def restart(self) -> None:
        """Stop every process and start all of them again over the same home."""
        before = {name: process["pid"] for name, process in self.processes().items()}
        self.almanac("down")
        assert not [pid for pid in before.values() if pid and _alive(pid)], before
        self.almanac("up", "--detach", "--port", str(self.port))
        assert not set(before.values()) & {process["pid"] for process in self.processes().values()}

    def logs(self) -> str:
        """The last lines of every log."""
        tails = [f"--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.home.glob("logs/*.log"))]
        return "\n".join(tails)


def eventually(check: Callable[[], Found], seconds: float, otherwise: str = "") -> Found:
    """What `check` gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, otherwise or "it did not happen in time"
        time.sleep(0.1)
    return found


def missing(what: str) -> NoReturn:
    """Skip where something a test needs is not there; fail in CI, where it must be."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_stack(home: Path, **settings: str) -> Iterator[Stack]:
    """A stack that is ready; stopped at the end, and nothing of it left."""
    port = free_port()
    env = {**os.environ, "ALMANAC_HOME": str(home), "ALMANAC_PORT": str(port), **settings}
    stack = Stack(home, port, env)
    stack.almanac("up", "--detach", "--port", str(port))
    pids = [process["pid"] for process in stack.processes().values()]
    try:
        yield stack
    finally:
        pids += [process["pid"] for process in stack.processes().values()]
        stack.almanac("down", check=False)
    left = [pid for pid in pids if pid and _alive(pid)]
    assert not left, f"processes left behind: {left}"


def _alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip().startswith("Z")
    except OSError:
        return False


def ingest_examples(stack: Stack, collection: str = "almanac") -> dict[str, Any]:
    """The sample corpus with its past."""
    files = [str(EXAMPLES / name) for name in ("history.jsonl", "facts.jsonl")]
    return stack.json("ingest", *files, "--history", "--collection", collection, "--wait")
