"""Builds beside the serving process: nothing is lost, whoever is killed, and searches go on."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from services.common.nodes.funnel import Funnel, Quantization
from services.common.nodes.retriever import Close
from services.retriever.backends.base import Definition
from services.retriever.backends.edge.graph import EdgeKind
from services.retriever.backends.rows.engine import RowsEngine
from tests.fakes.retriever import apply, changes, index_directory, point, query, retriever_over
from tests.support import eventually

WIDE = 32
BINARY = Funnel(quantization=Quantization.BINARY)
ONCE = 100
"""Points a build is begun above."""


@pytest.fixture
def home():
    with index_directory() as directory:
        yield directory


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, WIDE)).astype(np.float32)


def points(count, first=0):
    return [point(f"p{number}", text=f"word{number} common") for number in range(first, first + count)]


def build_by_hand(index):
    """All the phases of a build, one after the other, each in this process."""
    build = index.begin_build()
    for _ in build.prepare():
        pass
    subprocess.run([sys.executable, *build.command], check=True)
    return build


def filled(directory, count=600, funnel=BINARY):
    index = RowsEngine(directory, EdgeKind(), exact_below=0, build_above=ONCE).create("g1", Definition(funnel))
    index.upsert("acme", "notes", points(count), vectors(count))
    index.commit("acme", "notes", 10)
    return index


def nearest(index, vector, **asked):
    (found,) = index.search([(query(vector=vector, **asked), 10)])
    return found


FUNNELS = [
    Funnel(),
    BINARY,
    Funnel(quantization=Quantization.INT8),
    Funnel(dimensions=16, oversampling=8),
    Funnel(dimensions=24, quantization=Quantization.BINARY, oversampling=40),
]


@pytest.mark.parametrize("funnel", FUNNELS, ids=lambda one: f"{one.dimensions}-{one.quantization}")
def test_a_built_index_finds_what_exact_search_finds(home, funnel):
    index = filled(home, funnel=funnel)
    asked = vectors(20, seed=1)
    exact = [[one.item_id for one in nearest(index, row).dense] for row in asked]
    build = build_by_hand(index)
    assert list(build.adopt())
    build.abandon()
    assert index.unbuilt() == 0 and index.count() == 600 and index.begin_build() is None
    found = [[one.item_id for one in nearest(index, row).dense] for row in asked]
    shared = sum(len(set(one) & set(other)) for one, other in zip(exact, found, strict=True))
    assert shared >= 0.95 * 10 * len(asked)
    index.close()


def parts(directory):
    """The names of the builds there are, and their parts."""
    return sorted(path.name for path in directory.rglob("index-*"))


def test_only_one_build_is_left_and_it_has_codes(home):
    index = filled(home)
    build = build_by_hand(index)
    list(build.adopt())
    build.abandon()
    assert parts(home) == ["index-600.coarse", "index-600.postings"]
    assert list((home / "g1").rglob("quantized.data"))
    index.close()


def test_what_was_written_during_a_build_is_there_after_it(home):
    index = filled(home)
    build = index.begin_build()
    list(build.prepare())
    index.end("acme", "notes", [Close("p1", 5)])
    late = vectors(1, seed=9)
    index.upsert("acme", "notes", points(1, first=9_000), late)
    subprocess.run([sys.executable, *build.command], check=True)
    steps = build.adopt()
    next(steps)
    index.end("acme", "notes", [Close("p2", 6)])
    list(steps)
    build.abandon()
    assert nearest(index, late[0]).dense[0].item_id == "p9000"
    row = vectors(600)
    assert nearest(index, row[1], known_at=4).dense[0].extent.recorded.end == 5
    assert nearest(index, row[2], known_at=4).dense[0].extent.recorded.end == 6
    assert index.unbuilt() == 1
    index.close()


def test_a_build_given_up_leaves_nothing_and_all_as_it_was(home):
    index = filled(home)
    build = build_by_hand(index)
    steps = build.adopt()
    next(steps)
    steps.close()
    build.abandon()
    assert parts(home) == []
    assert index.count() == 600 and index.begin_build() is not None
    index.close()


async def standing(retriever):
    return await retriever.standing("g1")


async def until_built(retriever, seconds=30.0):
    async with asyncio.timeout(seconds):
        while True:
            stands = await standing(retriever)
            if not stands.building and not stands.unbuilt:
                return
            await asyncio.sleep(0.05)


async def until_building(retriever):
    async with asyncio.timeout(10):
        while not (await standing(retriever)).building:
            pass


def builders(parent):
    """Process ids of the builders that a process has started."""
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            commands[int(process.name)] = (process / "cmdline").read_bytes()
    mine = f'"parent": {parent},'.encode()
    return [process for process, command in commands.items() if b"rows.builder" in command and mine in command]


async def test_searches_go_on_while_a_builder_is_killed_and_begun_again(home):
    retriever = retriever_over("edge", home, retriever_build_above=ONCE)
    await retriever.define("g1", BINARY)
    rows = vectors(600)
    await apply(retriever, changes(points(600), vectors=rows))
    await until_building(retriever)
    killed = 0
    async with asyncio.timeout(10):
        while not killed:
            for process in builders(os.getpid()):
                os.kill(process, signal.SIGKILL)
                killed += 1
            found = await retriever.search(query(vector=rows[3], limit=5))
            assert found.hits[0].item_id == "p3"
    await until_built(retriever)
    assert (await retriever.search(query(vector=rows[3], limit=5))).hits[0].item_id == "p3"
    await retriever.close()


async def test_erasing_during_a_build_leaves_no_trace_of_the_document(home):
    retriever = retriever_over("edge", home, retriever_build_above=ONCE)
    await retriever.define("g1", BINARY)
    secret = point("secret", text="irreplaceable confession", item_id="secret")
    await apply(retriever, changes([*points(600), secret], vectors=vectors(601)))
    await until_building(retriever)
    assert await retriever.erase("g1", "acme", "notes", "doc-secret") == 1
    await until_built(retriever)
    await retriever.close()
    kept = [path for path in home.rglob("*") if path.is_file() and b"doc-secret" in path.read_bytes()]
    assert kept == []
    assert builders(os.getpid()) == []


KILLED = textwrap.dedent(
    """
    import asyncio, json, os, sys
    from pathlib import Path
    from services.retriever.backends.rows.build import RowsBuild
    from tests.integration import test_builds as t

    phase, home = sys.argv[1], Path(sys.argv[2])

    def dying(inner, after):
        def steps(self):
            for number, step in enumerate(inner(self)):
                yield step
                if number == after:
                    os.kill(os.getpid(), 9)
            os.kill(os.getpid(), 9)
        return steps

    if phase == "adopting":
        RowsBuild.adopt = dying(RowsBuild.adopt, 0)
    if phase == "adopted":
        RowsBuild.adopt = dying(RowsBuild.adopt, 1_000)

    async def main():
        retriever = t.retriever_over("edge", home, retriever_build_above=t.ONCE)
        await retriever.define("g1", t.BINARY)
        await t.apply(retriever, t.changes(t.points(600), vectors=t.vectors(600)))
        while True:
            if phase == "building" and t.builders(os.getpid()):
                print(json.dumps(t.builders(os.getpid())), flush=True)
                os.kill(os.getpid(), 9)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("phase", ["building", "adopting", "adopted"])
async def test_a_retriever_killed_in_any_phase_loses_nothing_and_builds_by_itself(home, phase):
    command = [sys.executable, "-c", KILLED, phase, str(home)]
    died = await asyncio.to_thread(subprocess.run, command, timeout=60, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    retriever = retriever_over("edge", home, retriever_build_above=ONCE)
    assert await retriever.position("g1", "acme", "notes") == 10
    await until_built(retriever)
    rows = vectors(600)
    assert (await standing(retriever)).points == 600
    assert (await retriever.contents("g1", "acme", "notes")).points == 600
    for number in (0, 17, 599):
        assert (await retriever.search(query(vector=rows[number], limit=5))).hits[0].item_id == f"p{number}"
    assert parts(home) == ["index-600.coarse", "index-600.postings"]
    await retriever.close()
    for process in json.loads(died.stdout or "[]"):
        await asyncio.to_thread(eventually, lambda process=process: gone(process), 10, "a builder lives on")


def gone(process):
    """Whether it runs no more, if somebody has yet to take note of it or not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
