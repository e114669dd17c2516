"""An open generation: searches that come in together, and builds that fail."""

import asyncio
import threading
from pathlib import Path

import pytest

from services.common.errors import InvalidRequest
from services.retriever import generation
from services.retriever.backends.base import Candidates
from services.retriever.generation import OpenGeneration
from tests.fakes.retriever import query
from tests.support import eventually

NOTHING = "import sys; sys.exit(0)"
DYING = "import sys; sys.exit(1)"
FAILING = "is never run"


class Engine:
    """An index that remembers its calls; a search waits for `go`. scripts: what each builder runs, in order."""

    def __init__(self, scripts=()):
        self.calls = []
        self.go = threading.Event()
        self.scripts = list(scripts)
        self.did = []

    def search(self, asked):
        self.go.wait(10)
        self.calls.append([query.text for query, _ in asked])
        if any(query.text == "bad" for query, _ in asked):
            raise InvalidRequest("no such query")
        return [Candidates((), ()) for _ in asked]

    def begin_build(self):
        return Build(self, self.scripts.pop(0)) if self.scripts else None

    def close(self):
        self.did.append("close")

    def count(self):
        return 0

    unbuilt = disk_bytes = memory_bytes = count


class Build:
    def __init__(self, engine, script):
        self.engine, self.command = engine, ["-c", script]

    def prepare(self):
        self.engine.did.append("prepare")
        if self.command[1] == FAILING:
            raise OSError("no room left")
        yield True

    def adopt(self):
        self.engine.did.append("adopt")
        yield True

    def abandon(self):
        self.engine.did.append("abandon")


async def searched(engine, *texts):
    """Each text's answer or error. The first is at the engine when the others come in."""
    held = OpenGeneration("g1", engine)
    asked = [asyncio.create_task(held.search(query(text), 10)) for text in texts]
    await asyncio.sleep(0.05)
    engine.go.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await held.close()
    return answers


async def test_searches_that_come_in_together_go_in_one_call():
    engine = Engine()
    await searched(engine, "a", "b", "c", "d")
    assert engine.calls == [["a", "b", "c", "d"]]


async def test_searches_that_come_in_during_a_call_go_in_the_next():
    engine = Engine()
    held = OpenGeneration("g1", engine)
    first = asyncio.create_task(held.search(query("a"), 10))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(held.search(query(text), 10)) for text in "bc"]
    await asyncio.sleep(0.05)
    engine.go.set()
    await asyncio.gather(first, *others)
    assert engine.calls == [["a"], ["b", "c"]]
    await held.close()


async def test_no_call_takes_more_searches_than_go_together():
    engine = Engine()
    await searched(engine, *(f"t{number}" for number in range(generation.MOST_TOGETHER + 1)))
    assert [len(call) for call in engine.calls] == [generation.MOST_TOGETHER, 1]


async def test_one_callers_bad_query_does_not_fail_the_others():
    good, bad, other = await searched(Engine(), "a", "bad", "c")
    assert isinstance(good, Candidates) and isinstance(other, Candidates)
    assert isinstance(bad, InvalidRequest)


async def test_a_search_given_up_reaches_the_engine_no_more():
    engine = Engine()
    held = OpenGeneration("g1", engine)
    first = asyncio.create_task(held.search(query("a"), 10))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(held.search(query("b"), 10))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0)
    engine.go.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert engine.calls == [["a"]]
    await held.close()


async def built(held):
    held.consider_build()
    async with asyncio.timeout(20):
        await held._build


async def test_a_builder_that_dies_is_begun_again(monkeypatch):
    monkeypatch.setattr(generation, "_AGAIN_SECONDS", (0.01, 0.02))
    engine = Engine([DYING, DYING, NOTHING])
    held = OpenGeneration("g1", engine)
    await built(held)
    await held.close()
    assert engine.did == ["prepare", "abandon", "prepare", "abandon", "prepare", "adopt", "abandon", "close"]


@pytest.mark.parametrize("script", [DYING, FAILING])
async def test_a_build_that_waits_for_its_next_try_is_still_under_way(script, monkeypatch):
    monkeypatch.setattr(generation, "_AGAIN_SECONDS", (60.0, 60.0))
    engine = Engine([script, NOTHING])
    held = OpenGeneration("g1", engine)
    held.consider_build()
    await asyncio.to_thread(eventually, lambda: "abandon" in engine.did, 20)
    await asyncio.sleep(0.02)
    assert (await held.standing()).building
    await held.close()


async def test_what_was_written_during_a_build_is_built_by_the_next():
    engine = Engine([NOTHING, NOTHING])
    held = OpenGeneration("g1", engine)
    await built(held)
    assert engine.did.count("adopt") == 2 and not (await held.standing()).building
    await held.close()


async def test_stopping_kills_the_builder_and_forgets_the_build(tmp_path):
    mark = tmp_path / "alive"
    script = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    engine = Engine([script])
    held = OpenGeneration("g1", engine)
    held.consider_build()
    await asyncio.to_thread(eventually, lambda: mark.exists() and mark.read_text(), 20)
    await held.stop_building()
    assert engine.did == ["prepare", "abandon"] and not (await held.standing()).building
    assert not Path(f"/proc/{mark.read_text()}").exists()
    await held.close()


async def test_changes_wait_while_a_build_is_prepared():
    engine = Engine([NOTHING])
    held = OpenGeneration("g1", engine)
    async with held.writing:
        held.consider_build()
        await asyncio.sleep(0.05)
        assert engine.did == []
    await built(held)
    assert engine.did[0] == "prepare"
    await held.close()
