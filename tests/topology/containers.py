"""One container that is none: the process that an image would run, where it would run, begun again as compose says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.postgres import program
from tests.topology.deployed import ROOT, Service
from tests.topology.network import Network, Place
from tests.topology.stores import COMMANDS, pings

INSTALLED = {"/opt/almanac": Path(sys.prefix), "/opt/code": ROOT}
"""What an image brings along, and where it is here."""
KEPT = ("/models", "/uploads", "/vectors", "/var/lib/almanac", "/var/lib/postgresql/data")
"""Where a container writes or reads files: a volume of the stack, or else a directory of its own."""

_HEALTH_SECONDS = 60.0
_FIRST_BACKOFF, _SETTLED_SECONDS = 0.1, 10.0
"""Docker's: a container that ends is begun again after 100 ms, doubled each time until it runs for 10 s."""


class Container:
    """A replica of a service. `volumes` gives a volume's directory by its name."""

    def __init__(
        self, service: Service, number: int, place: Place, network: Network, home: Path, volumes: Mapping[str, Path]
    ) -> None:
        self.service, self.number, self.place = service, number, place
        self.log = home / "log"
        self.wanted = False
        self.begun = 0
        self._network, self._home = network, home
        self._paths = {path: self._path(path, volumes) for path in KEPT} | INSTALLED
        self._scratch = self._path("/tmp", volumes)
        self._process: subprocess.Popen[bytes] | None = None
        self._since, self._backoff = 0.0, _FIRST_BACKOFF

    def _path(self, path: str, volumes: Mapping[str, Path]) -> Path:
        name = self.service.volumes.get(path)
        here = volumes[name] if name else self._home / path.strip("/").replace("/", "-")
        here.mkdir(parents=True, exist_ok=True)
        return here

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def environment(self) -> dict[str, str]:
        """What the image and compose say, with paths as they are here, and nothing of the caller's."""
        said = self._network.environment(self.place, self.service.environment)
        found = {name: self._mapped(value.replace("$PATH", os.defpath)) for name, value in said.items()}
        return {**found, "HOME": str(self._paths["/var/lib/almanac"]), "TMPDIR": str(self._scratch)}

    def _mapped(self, value: str) -> str:
        return ":".join(self._here(part) for part in value.split(":"))

    def _here(self, part: str) -> str:
        for path, here in self._paths.items():
            if part == path or part.startswith(f"{path}/"):
                return f"{here}{part.removeprefix(path)}"
        return part

    def start(self) -> None:
        """Begin, and from now on again whenever it ends and compose says so."""
        self.wanted = True
        self._begin()

    def _begin(self) -> None:
        self.begun += 1
        self._since = time.monotonic()
        with self.log.open("ab") as log:
            self._process = self._popen(self._command(), stdout=log, stderr=log, start_new_session=True)

    def _command(self) -> tuple[str, ...]:
        if not self.service.target:
            return COMMANDS[self.service.name](self.service, self.place.address, self._data())
        return self.service.command

    def _data(self) -> Path:
        return next((self._paths[path] for path in self.service.volumes), self._scratch)

    def _popen(self, command: tuple[str, ...], **options: object) -> subprocess.Popen[bytes]:
        env = self.environment()
        # The program is looked for on the path of the container, not on the caller's.
        within = ("env", "-i", *(f"{name}={value}" for name, value in env.items()), *command)
        cwd = self._paths["/var/lib/almanac"] if self.service.target else self._data()
        return subprocess.Popen((*self.place.enter, *within), cwd=cwd, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload, no-any-return]

    def keep(self) -> None:
        """Begin again, if it ended by itself and it is time."""
        if not self.wanted or self.running or self.service.restart == "no":
            return
        if time.monotonic() - self._since > _SETTLED_SECONDS:
            self._backoff = _FIRST_BACKOFF
        if time.monotonic() - self._since > self._backoff:
            self._backoff *= 2
            self._begin()

    def healthy(self) -> bool:
        """What its health check says."""
        if self.service.name == "valkey":
            return pings(self.place.address)
        command = self.service.health
        if self.service.name == "postgres":
            command = (str(program(command[0])), *command[1:], "-h", self.place.address)
        return self.running and self._succeeds(command)

    def _succeeds(self, command: tuple[str, ...]) -> bool:
        with (self.log.with_name("health")).open("wb") as said:
            asking = self._popen(command, stdout=said, stderr=said)
        try:
            return not asking.wait(_HEALTH_SECONDS)
        except subprocess.TimeoutExpired:
            asking.kill()
            asking.wait()
            return False

    def kill(self) -> None:
        """SIGKILL from outside; it is begun again as compose says."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, seconds: float | None = None) -> float:
        """SIGTERM, then SIGKILL after the grace period. The seconds it took; its exit code tells how it ended."""
        began, self.wanted = time.monotonic(), False
        if self._process is None:
            return 0.0
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self.service.grace if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return time.monotonic() - began

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
