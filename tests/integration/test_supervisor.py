"""The local supervisor, driving tiny children; the cases about the supervisor's own death run it as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.admin.failures import Failed
from services.admin.ports import require_free
from services.admin.probes import answers_ping
from services.admin.process import Child, Phase, ProcessSpec, Timing, rotate
from services.admin.state import Places, StackState, holder, locked, read_state
from services.admin.supervisor import Supervisor
from services.admin.valkey import valkey_argv
from services.admin.watchdog import Watchdog

ROOT = Path(__file__).parents[2]
QUICK = Timing(probe=0.01, first_backoff=0.02, longest_backoff=0.1, start=5, stage=0.5, kill=1.0)

SERVES = """
import os, pathlib, signal, sys, time
if sys.argv[2] == "parent" and os.fork() == 0:
    sys.argv[2] = f"child-{os.getpid()}"
events, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def note(what):
    with events.open("a") as out: out.write(f"{name} {what}\\n")
def stop(*_):
    note("stopped"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("started" if "child" not in name else "forked")
time.sleep(60)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, Phase]] = []
        self.url = ""

    def changed(self, child: Child, up: bool) -> None:
        self.phases.append((child.spec.name, child.phase))

    def ready(self, url: str, seconds: float) -> None:
        self.url = url

    def stopping(self) -> None: ...


class Stand:
    """A home with a file in which children note what they do."""

    def __init__(self, home: Path) -> None:
        self.places = Places(home)
        self.noted = home / "noted"
        self.noted.touch()
        self.reporter = Silent()

    def serving(self, name: str, after: tuple[str, ...] = (), stage: int = 1) -> ProcessSpec:
        async def ready() -> bool:
            return f"{name} started" in self.noted.read_text()

        argv = (sys.executable, "-I", "-S", "-c", SERVES, str(self.noted), name)
        return ProcessSpec(name, argv, ready, after, stage)

    def supervisor(self, *specs: ProcessSpec, timing: Timing = QUICK) -> Supervisor:
        return Supervisor(specs, self.places, 1, "http://test", os.environ, self.reporter, timing)

    @contextlib.asynccontextmanager
    async def running(self, *specs: ProcessSpec, timing: Timing = QUICK) -> AsyncIterator[StackState]:
        supervisor = self.supervisor(*specs, timing=timing)
        with locked(self.places, "http://test"):
            work = asyncio.create_task(supervisor.run())
            try:
                await until(lambda: work.done() or bool(self.reporter.url))
                state = read_state(self.places)
                assert state is not None
                yield state
            finally:
                supervisor.stop()
                await work

    def order(self) -> list[str]:
        return self.noted.read_text().splitlines()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_process_starts_after_those_it_needs_and_stops_before_lower_stages(stand: Stand) -> None:
    specs = (stand.serving("front", after=("base",), stage=2), stand.serving("base", stage=0), stand.serving("node"))
    async with stand.running(*specs) as state:
        assert state.ready
        assert set(state.processes) == {"front", "base", "node"}
        started = stand.order()
        assert started.index("base started") < started.index("front started")
    assert stand.order()[-3:] == ["front stopped", "node stopped", "base stopped"]


async def test_stopping_leaves_no_process_and_no_state(stand: Stand) -> None:
    async with stand.running(stand.serving("one"), stand.serving("two")) as state:
        pids = [process.pid for process in state.processes.values()]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert not stand.places.state.exists()


async def test_a_process_that_ignores_the_request_to_stop_is_killed(stand: Stand) -> None:
    async def ready() -> bool:
        return "deaf" in stand.places.log("deaf").read_text()

    spec = ProcessSpec("deaf", (sys.executable, "-I", "-S", "-c", DEAF), ready)
    async with stand.running(spec, timing=Timing(probe=0.01, stage=0.1, kill=0.3)) as state:
        pid = state.processes["deaf"].pid
        began = time.monotonic()
    assert not alive(pid)
    assert 0.25 < time.monotonic() - began < 2


async def test_a_crashed_process_is_started_again_and_counted(stand: Stand) -> None:
    async with stand.running(stand.serving("one"), stand.serving("two")) as state:
        os.kill(state.processes["one"].pid, signal.SIGKILL)
        await until(lambda: stand.order().count("one started") == 2)
        await until(lambda: stand.reporter.phases[-1] == ("one", Phase.READY))
        now = read_state(stand.places)
        assert now is not None
        assert now.processes["one"].restarts == 1
        assert now.processes["one"].pid != state.processes["one"].pid
        assert now.processes["two"] == state.processes["two"]


async def test_pauses_between_restarts_grow_up_to_the_longest(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted_sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise asyncio.CancelledError
        await sleep(0)

    async def never() -> bool:
        await asyncio.Event().wait()
        return False

    spec = ProcessSpec("ends", ("/bin/true",), never)
    stand.places.logs.mkdir()
    watchdog = Watchdog()
    child = Child(spec, stand.places.log("ends"), os.environ, Timing(), watchdog, lambda child: None)
    child.in_startup = False
    monkeypatch.setattr("services.admin.process.asyncio.sleep", noted_sleep)
    with pytest.raises(asyncio.CancelledError):
        await child.keep()
    watchdog.close()
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2]


async def test_a_process_that_cannot_start_fails_the_stack_and_shows_its_log(stand: Stand) -> None:
    async def never() -> bool:
        return False

    argv = (sys.executable, "-I", "-S", "-c", "raise SystemExit('no model here')")
    stand.places.logs.mkdir()
    stand.places.log("broken").write_text("of another day\n")
    supervisor = stand.supervisor(stand.serving("fine"), ProcessSpec("broken", argv, never))
    with pytest.raises(Failed, match=r"(?s)broken ended 3 times.*no model here.*broken\.log") as failed:
        await supervisor.run()
    assert "another day" not in str(failed.value)
    assert stand.order()[-1:] in (["fine stopped"], [])
    assert stand.reporter.url == ""


async def test_a_process_that_never_becomes_ready_fails_the_stack(stand: Stand) -> None:
    async def never() -> bool:
        return False

    spec = ProcessSpec("slow", ("/bin/sleep", "60"), never)
    supervisor = stand.supervisor(spec, timing=Timing(probe=0.01, start=0.3, kill=1))
    with pytest.raises(Failed, match="not ready after 0 s: slow"):
        await supervisor.run()


def test_a_home_has_one_supervisor_and_the_refusal_names_it(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert holder(places) is None
    with locked(places, "http://127.0.0.1:8420"):
        with pytest.raises(Failed, match=rf"pid {os.getpid()}\) at http://127.0.0.1:8420"), locked(places, "http://b"):
            pass
        assert holder(places) == f"{os.getpid()} http://127.0.0.1:8420"
    assert holder(places) is None
    with locked(places, "http://c"):
        assert holder(places) == f"{os.getpid()} http://c"


def test_state_left_by_a_killed_supervisor_is_not_believed(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.state.parent.mkdir()
    places.state.write_text('{"pid": 1, "port": 1, "url": "http://a", "ready": true, "processes": {}}')
    assert read_state(places) is None
    with locked(places, "http://a"):
        assert read_state(places) == StackState(1, 1, "http://a", True, {})


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failed, match=rf"port {port} on 127.0.0.1.*almanac up --port {port % 65535 + 1}"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_only_a_log_that_has_grown_too_long_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    rotate(log)
    log.write_text("12345")
    rotate(log, limit=5)
    assert log.read_text() == "12345"
    rotate(log, limit=4)
    assert not log.exists()
    assert (tmp_path / "node.log.1").read_text() == "12345"


MAIN = textwrap.dedent("""
    import asyncio, os, sys
    from pathlib import Path
    from services.admin.state import locked
    from tests.integration.test_supervisor import QUICK, Stand

    stand = Stand(Path(sys.argv[1]))
    specs = (stand.serving("one"), stand.serving("parent"))
    with locked(stand.places, "http://test"):
        asyncio.run(stand.supervisor(*specs).run())
""")


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], StackState]]:
    """A supervisor in a process of its own, ready."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, str(tmp_path)], cwd=ROOT)
    try:
        while (state := read_state(Places(tmp_path))) is None or not state.ready:
            assert process.poll() is None
            time.sleep(0.02)
        yield process, state
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_a_killed_supervisor_leaves_no_orphan(
    apart: tuple[subprocess.Popen[bytes], StackState], tmp_path: Path
) -> None:
    process, state = apart
    pids = [child.pid for child in state.processes.values()] + [grandchild(tmp_path)]
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.wait()
    until_gone = time.monotonic() + 2
    while any(alive(pid) for pid in pids) and time.monotonic() < until_gone:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def grandchild(home: Path) -> int:
    """The process that one of the children has started itself."""
    while "forked" not in (noted := (home / "noted").read_text()):
        time.sleep(0.02)
    return int(noted.partition("child-")[2].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_ends_well(
    apart: tuple[subprocess.Popen[bytes], StackState], tmp_path: Path, number: signal.Signals
) -> None:
    process, state = apart
    pids = [child.pid for child in state.processes.values()] + [grandchild(tmp_path)]
    process.send_signal(number)
    assert process.wait(5) == 0
    assert not any(alive(pid) for pid in pids)


async def test_the_real_valkey_answers_on_its_socket_and_keeps_nothing(tmp_path: Path) -> None:
    home = tmp_path / "with space"
    home.mkdir()
    stand = Stand(home)
    sock = home / "v.sock"

    async def ready() -> bool:
        return await answers_ping(sock)

    spec = ProcessSpec("valkey", valkey_argv(sock, home), ready)
    async with stand.running(spec):
        reader, writer = await asyncio.open_unix_connection(sock)
        writer.write(b"CONFIG GET maxmemory-policy\r\nCONFIG GET save\r\nCONFIG GET port\r\n")
        said = b"".join([await reader.readline() for _ in range(15)])
        writer.close()
        assert b"noeviction" in said
        assert said.endswith(b"$4\r\nport\r\n$1\r\n0\r\n")
        assert sock.stat().st_mode & 0o077 == 0
    assert not list(home.glob("*.rdb")) and not list(home.glob("appendonly*"))
    assert not await answers_ping(sock)
