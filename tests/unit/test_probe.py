"""What health checks ask."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import grpc
import pytest

from services.common.probe import BEAT, _here, well
from services.common.rpc.server import start
from tests.support import free_port


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALMANAC_HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path


def test_a_worker_is_well_while_it_beats(home: Path) -> None:
    assert not well("orchestrator")
    beat = home / "run" / BEAT
    beat.touch()
    assert well("orchestrator")
    os.utime(beat, (time.time() - 60,) * 2)
    assert not well("orchestrator")


def test_a_gateway_that_is_not_there_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_PORT", str(free_port()))
    assert not well("gateway")


def test_a_node_is_well_when_it_serves(home: Path) -> None:
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    server: grpc.aio.Server = asyncio.run_coroutine_threadsafe(
        start(f"unix:{home / 'run' / 'encoder.sock'}", "almanac.encoder.v1.Encoder", lambda server: None), loop
    ).result()
    try:
        assert well("encoder")
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()
    assert not well("encoder")


def test_a_container_asks_itself() -> None:
    assert _here("0.0.0.0:8431") == "127.0.0.1:8431"
    assert _here("encoder:8431") == "encoder:8431"


def test_no_process_has_an_unknown_name() -> None:
    with pytest.raises(AttributeError):
        well("nobody")
