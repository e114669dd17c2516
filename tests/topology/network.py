"""Networks for containers that are none: a namespace each on one bridge, or an address each on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support import free_port

_HOSTS_BYTES = 4096
"""Of a file of names: always the same, so that one write replaces all of it and no reader sees half."""
_NETNS = Path("/etc/netns")
_NAMED_ON_LOOPBACK = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container is: its address, what its commands begin with, and the port of its figures."""

    name: str
    address: str
    enter: tuple[str, ...] = ()
    figures: int = 9464


class Network(Protocol):
    """Containers come and go; each reaches the others by the names of their services."""

    gateway: str
    """Where the host itself is reached from inside."""

    def join(self, service: str, number: int) -> Place: ...

    def names(self, known: Mapping[str, Sequence[str]]) -> None:
        """From now on each name stands for these addresses, and no other name is known."""
        ...

    def environment(self, place: Place, given: Mapping[str, str]) -> dict[str, str]:
        """The environment as it is to be said here."""
        ...

    def close(self) -> None: ...


def namespaces_allowed() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0:
        return False
    name = f"almanac-{secrets.token_hex(3)}"
    made = not subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode
    bridged = made and not subprocess.run(_ip(f"-n {name} link add probe type bridge"), capture_output=True).returncode
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return bridged


class Namespaces:
    """Each container in a network namespace of its own, on one bridge; names by /etc/hosts, as `ip netns` mounts it."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self._bridge, self._mark = f"alm{mark}", mark
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        self.gateway = f"{self._net}.1"
        self._places: list[Place] = []
        _run(f"link add {self._bridge} type bridge")
        _run(f"addr add {self.gateway}/24 dev {self._bridge}")
        _run(f"link set {self._bridge} up")

    def join(self, service: str, number: int) -> Place:
        index = len(self._places) + 2
        name = f"alm{self._mark}-{service}-{number}"
        outside, inside = f"a{self._mark}{index}", f"b{self._mark}{index}"
        place = Place(name, f"{self._net}.{index}", ("ip", "netns", "exec", name))
        (_NETNS / name).mkdir(parents=True)
        (_NETNS / name / "hosts").write_bytes(b"\n" * _HOSTS_BYTES)
        (_NETNS / name / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self._places.append(place)
        _run(f"netns add {name}")
        _run(f"link add {outside} type veth peer name {inside}")
        _run(f"link set {inside} netns {name} name eth0")
        _run(f"link set {outside} master {self._bridge} up")
        for rest in ("link set lo up", f"addr add {place.address}/24 dev eth0", "link set eth0 up"):
            _run(f"-n {name} {rest}")
        return place

    def names(self, known: Mapping[str, Sequence[str]]) -> None:
        lines = ["127.0.0.1 localhost", *(f"{one} {name}" for name, all_of in known.items() for one in all_of)]
        text = "\n".join(lines).encode().ljust(_HOSTS_BYTES, b"\n")
        for place in self._places:
            with (_NETNS / place.name / "hosts").open("r+b", buffering=0) as file:
                file.write(text)

    def environment(self, place: Place, given: Mapping[str, str]) -> dict[str, str]:
        return dict(given)

    def close(self) -> None:
        for place in self._places:
            subprocess.run(["ip", "netns", "del", place.name], capture_output=True)
            for file in (_NETNS / place.name).iterdir():
                file.unlink()
            (_NETNS / place.name).rmdir()
        _run(f"link del {self._bridge}")


class Loopback:
    """Each container an address of 127/8. The addresses a name may have are given out beforehand, for want of hosts."""

    gateway = "127.0.0.1"

    def __init__(self, services: Sequence[str]) -> None:
        net = f"127.{1 + secrets.randbelow(254)}"
        self._known = {
            name: [f"{net}.{row}.{n}" for n in range(1, _NAMED_ON_LOOPBACK + 1)]
            for row, name in enumerate(services, start=1)
        }

    def join(self, service: str, number: int) -> Place:
        return Place(f"{service}-{number}", self._known[service][number - 1], figures=free_port())

    def names(self, known: Mapping[str, Sequence[str]]) -> None:
        """They stay as they are: a call goes to those that answer."""

    def environment(self, place: Place, given: Mapping[str, str]) -> dict[str, str]:
        said = {name: self._numbered(value).replace("0.0.0.0", place.address) for name, value in given.items()}
        return said | {"ALMANAC_METRICS_PORT": str(place.figures)}

    def _numbered(self, value: str) -> str:
        for name, addresses in self._known.items():
            for port in ("8431", "8432", "8433", "8434"):
                targets = ",".join(f"{address}:{port}" for address in addresses)
                value = value.replace(f"dns:///{name}:{port}", f"ipv4:{targets}")
            value = value.replace(f"//{name}:", f"//{addresses[0]}:").replace(f"@{name}/", f"@{addresses[0]}/")
            value = f"{addresses[0]}:6379" if value == f"{name}:6379" else value
        return value

    def close(self) -> None:
        pass


def _ip(arguments: str) -> list[str]:
    return ["ip", *arguments.split()]


def _run(arguments: str) -> None:
    done = subprocess.run(_ip(arguments), capture_output=True, text=True)
    assert not done.returncode, f"ip {arguments}: {done.stderr}"
