"""Re-indexing while its processes are killed in each phase: it goes on by itself, and searches go on with it."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT, eventually, ingest_examples, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
COLLECTION = "almanac"
ENVIRONMENT = {
    "ALMANAC_ENCODER_BACKEND": "memory",
    "ALMANAC_GENERATOR_BACKEND": "memory",
    "ALMANAC_MODELS_MANIFEST": str(ROOT / "tests" / "fakes" / "models.toml"),
    "ALMANAC_RETRIEVER_BUILD_ABOVE": "50",
    "ALMANAC_REINDEX_SHARE": "0.25",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("reindex-kills") / "home", **ENVIRONMENT) as running:
        assert ingest_examples(running)["failed"] == 0
        dice = random.Random(1)
        words = ["".join(dice.choices("abdeiklmnoprstu", k=7)) for _ in range(400)]
        rows = [{"id": f"d{n}", "title": f"Entry {n}", "text": " ".join(dice.choices(words, k=20))} for n in range(400)]
        path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        assert running.json("ingest", str(path), "--collection", "more", "--wait")["failed"] == 0
        yield running


def read(stack, path):
    def answered():
        with suppress(httpx.HTTPError):
            response = httpx.get(f"{stack.url}{path}", timeout=20, trust_env=False)
            return response.json() if response.status_code == 200 else None

    return eventually(answered, 60, f"{path} cannot be read\n{stack.logs()}")


def generations(stack):
    return {one["name"]: one for one in read(stack, "/v1/admin/generations")["generations"]}


def live(stack):
    return next(name for name, one in generations(stack).items() if one["state"] == "live")


def finished(stack, job):
    def ended():
        found = read(stack, f"/v1/jobs/{job}")
        return found if found["state"] in ("done", "failed", "cancelled") else None

    return eventually(ended, 300, f"the job did not end\n{stack.logs()}")


def begun(stack, job, done):
    """Wait until the job is at work and has done so much."""

    def is_so():
        found = read(stack, f"/v1/jobs/{job}")
        assert found["state"] in ("queued", "running"), found
        return found["state"] == "running" and found["done"] >= done

    eventually(is_so, 60, f"the job does not get on\n{stack.logs()}")


def kill(stack, victim):
    """SIGKILL; `builder` is the process that builds for the retriever, if there is one within a while."""
    if victim != "builder":
        old = stack.kill(victim)
        stack.restarted(victim, old)
        return
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for pid in children(stack.processes()["retriever"]["pid"]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.01)


def children(pid):
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for some in listed for child in some]


def searched(stack, expected):
    def answered():
        response = stack.post("/v1/search", {"query": "Is Pluto a planet?", "collection": COLLECTION})
        found = response.json() if response.status_code == 200 else {}
        return found.get("hits") and not found["degraded"] and found["generation"]

    assert eventually(answered, 40, f"searches fail\n{stack.logs()}") == expected


@pytest.mark.parametrize("victim", ["worker", "retriever", "builder", "encoder"])
def test_whoever_is_killed_in_whatever_phase_it_goes_on(stack, victim):
    before = live(stack)
    # An encoder of its own each, so that there is something to encode.
    asked = {"worker": ("--encoder", "hashed-96"), "encoder": ("--encoder", "hashed-80")}.get(victim)
    asked = asked or ("--dimensions", "96")
    started = stack.json("reindex", "start", *asked, "--no-wait")
    name, job = started["generation"]["name"], started["job"]["id"]
    for done in (1, 150):
        begun(stack, job, done)
        kill(stack, victim)
        searched(stack, before)
    ended = finished(stack, job)
    assert ended["state"] == "done", stack.logs()
    assert (ended["counts"].get("encoded", 0) > 400) == ("--encoder" in asked), ended["counts"]
    assert generations(stack)[name]["state"] == "ready"
    checked = stack.json("reindex", "verify", name, "--no-wait")["job"]["id"]
    time.sleep(0.3)
    kill(stack, victim)
    assert finished(stack, checked)["state"] == "done"
    assert generations(stack)[name]["verdict"]["passed"], generations(stack)[name]
    for step, now, then in ((("switch", name), name, before), (("rollback",), before, name)):
        assert stack.json("reindex", *step) == {
            "live": now,
            "kept": then,
            **({"behind": 0} if step[0] == "rollback" else {}),
        }
        kill(stack, victim)
        searched(stack, now)
    stack.json("reindex", "drop", name)
    kill(stack, victim)
    index = stack.home / "index"
    eventually(lambda: not list(index.glob(f"*{name}*")), 40, "the index of a dropped generation stays")
