"""Each node's process stopped in a running stack: it accepts and never answers, until it goes on or is started anew."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sample import DOCUMENTED, FACT
from tests.support import Stack, eventually, ingest_examples, running_stack

ANSWER_SECONDS = 60.0
"""Every answer ends within this time (ALMANAC_ANSWER_SECONDS)."""
LATE_SECONDS = 15.0
AS_OF = "2020-06-01"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    quick = {"ALMANAC_ENCODER_BACKEND": "memory", "ALMANAC_GENERATOR_BACKEND": "memory"}
    home: Path = tmp_path_factory.mktemp("stopped")
    with running_stack(home, **quick) as running:
        ingest_examples(running)
        yield running


@pytest.mark.timeout(400)
@pytest.mark.parametrize("node", ["encoder", "retriever", "features", "generator"])
def test_a_stopped_node_is_done_without_in_time_and_taken_up_again(stack: Stack, node: str) -> None:
    text = FACT if node in ("features", "retriever") else DOCUMENTED
    assert stack.ask(text, as_of=AS_OF, collection="almanac")["degraded"] == []
    pid = int(stack.processes()[node]["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            began = time.monotonic()
            found = stack.ask(text, as_of=AS_OF, collection="almanac")
            assert time.monotonic() - began < ANSWER_SECONDS + LATE_SECONDS
            assert node in found["degraded"] and found["citations"], found
    finally:
        if stack.processes()[node]["pid"] == pid:
            os.kill(pid, signal.SIGCONT)
    eventually(
        lambda: stack.ask(text, as_of=AS_OF, collection="almanac")["degraded"] == [],
        120,
        f"{node} was not taken up\n{stack.logs()}",
    )
