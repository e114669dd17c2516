"""Re-indexing while a client asks and searches all the time: to other dimensions, then to another encoder."""

import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager
from statistics import quantiles

import httpx
import pytest

from tests.support import EXAMPLES, ROOT, eventually, ingest_examples, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
COLLECTION = "almanac"
QUESTIONS = ("Is Pluto a planet?", "How is the kilogram defined?", "What is the tallest building in the world?")
QUERIES = (*QUESTIONS, "library opening hours", "capital of Myanmar", "world record of the 100 metres")
ENVIRONMENT = {
    "ALMANAC_ENCODER_BACKEND": "memory",
    "ALMANAC_GENERATOR_BACKEND": "memory",
    "ALMANAC_MODELS_MANIFEST": str(ROOT / "tests" / "fakes" / "models.toml"),
}


class Client(threading.Thread):
    """Asks and searches until told to stop; what went wrong, who answered, and how long that took, phase by phase."""

    def __init__(self, stack, kind):
        super().__init__(daemon=True)
        self.stack, self.kind = stack, kind
        self.phase, self.stopped = "before", threading.Event()
        self.wrong, self.generations, self.took = [], [], {}
        self.cosines = {}
        """(query, passage) → generation → the cosines that its hits had."""

    def run(self):
        dice = random.Random(self.kind)
        with httpx.Client(base_url=self.stack.url, timeout=30, trust_env=False) as http:
            while not self.stopped.is_set():
                phase, began = self.phase, time.monotonic()
                try:
                    self.once(http, dice)
                except httpx.HTTPError as error:
                    self.wrong.append((phase, repr(error)))
                self.took.setdefault(phase, []).append(time.monotonic() - began)
                time.sleep(0.02)

    def once(self, http, dice):
        if self.kind == "ask":
            body = {"question": dice.choice(QUESTIONS), "collection": COLLECTION, "as_of": "2020-06-01"}
            response = http.post("/v1/answers", json=body)
        else:
            body = {"query": dice.choice(QUERIES), "collection": COLLECTION, "limit": 10, "explain": True}
            response = http.post("/v1/search", json=body)
        found = response.json()
        good = response.status_code == 200 and not found["degraded"]
        if not good or not found.get("citations", found.get("hits")):
            self.wrong.append((self.phase, response.status_code, response.text[:300]))
        else:
            self.generations.append(found["generation"])
            self.note(body, found)

    def note(self, body, found):
        """Which vectors each hit was found by: those of the generation that the answer names, and no other's."""
        if self.kind == "search" and found["explain"]["generation"] != found["generation"]:
            self.wrong.append((self.phase, found["explain"]))
        for hit in found.get("hits", ()):
            seen = self.cosines.setdefault((body["query"], hit["passage_id"]), {})
            seen.setdefault(found["generation"], []).append(hit["dense"])


@contextmanager
def asking(stack):
    clients = [Client(stack, "ask"), Client(stack, "search")]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(40)


def phase(clients, name):
    for client in clients:
        client.phase = name


def p95(seconds):
    return quantiles(seconds, n=20)[-1] if len(seconds) > 1 else float("nan")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("reindex") / "home", **ENVIRONMENT) as running:
        assert ingest_examples(running)["failed"] == 0
        more = str(EXAMPLES / "documents")
        assert running.json("ingest", more, "--collection", "more", "--wait")["failed"] == 0
        yield running


def on_record(stack):
    """Ids, versions and record times: what a re-index must not touch; questions are logged beside them."""
    with sqlite3.connect(f"file:{stack.home}/catalog.db?mode=ro", uri=True) as db:
        tables = ("passage_extents", "version_extents", "versions", "occurrences", "questions", "statements")
        queries = {table: f"SELECT * FROM {table}" for table in tables}
        queries["events"] = "SELECT * FROM events WHERE kind NOT IN ('answer', 'search')"
        return {table: sorted(db.execute(query), key=repr) for table, query in queries.items()}


def generations(stack):
    return {one["name"]: one for one in stack.json("reindex", "status")["generations"]}


@pytest.mark.parametrize(
    "options",
    [("--dimensions", "128", "--rotation", "pca", "--quantization", "none"), ("--encoder", "hashed-96")],
    ids=["dimensions", "encoder"],
)
def test_nobody_notices_a_reindex(stack, options):
    held, before = on_record(stack), next(name for name, one in generations(stack).items() if one["state"] == "live")
    with asking(stack) as clients:
        time.sleep(6)
        phase(clients, "build")
        job = stack.json("reindex", "start", *options)
        name = job["generation"]["name"]
        assert job["job"]["state"] == "done" and generations(stack)[name]["state"] == "ready"
        time.sleep(2)
        phase(clients, "verify")
        refused = stack.almanac("reindex", "switch", name, check=False)
        assert refused.returncode == 1 and "not been verified" in refused.stderr
        verdict = stack.json("reindex", "verify", name)["verdict"]
        assert verdict["passed"] and verdict["points"] > 100, verdict
        phase(clients, "switched")
        assert stack.json("reindex", "switch", name) == {"live": name, "kept": before}
        time.sleep(4)
        assert stack.ask(QUESTIONS[0], collection=COLLECTION)["generation"] == name
        phase(clients, "rolled back")
        assert stack.json("reindex", "rollback")["live"] == before
        time.sleep(3)
        phase(clients, "after")
    told(clients)
    assert [client.wrong for client in clients] == [[], []]
    for client in clients:
        seen = Counter(client.generations)
        assert set(seen) == {before, name} and min(seen.values()) > 3, seen
    unmixed(clients[1], apart="--encoder" in options)
    assert on_record(stack) == held
    stack.json("reindex", "drop", name)
    index = stack.home / "index"
    eventually(lambda: not list(index.glob(f"*{name}*")), 30, "the index of a dropped generation stays")


def unmixed(client, apart):
    """A passage has one cosine with a query in a generation; `apart`: and another one in another generation."""
    compared = 0
    for seen in client.cosines.values():
        for cosines in seen.values():
            assert None not in cosines and max(cosines) - min(cosines) < 1e-5, seen
        if apart and len(seen) == 2:
            one, other = (cosines[0] for cosines in seen.values())
            compared += abs(one - other) > 1e-3
    assert not apart or compared >= 10 * len(QUERIES) / 2, "the generations cannot be told from each other"


def told(clients):
    for client in clients:
        for name, seconds in client.took.items():
            print(f"{client.kind:6} {name:11} {len(seconds):4} times, p95 {p95(seconds) * 1000:6.0f} ms")


def test_what_is_recorded_reaches_both_and_a_switch_shows_it_at_once(stack, tmp_path):
    name = stack.json("reindex", "start", "--encoder", "hashed-96")["generation"]["name"]
    (tmp_path / "late.md").write_text("# Zanzibarquux\n\nThe zanzibarquux sleeps under the old bridge.\n")
    assert stack.json("ingest", str(tmp_path), "--collection", COLLECTION, "--wait")["failed"] == 0
    eventually(lambda: generations(stack)[name]["behind"] == 0, 30, "the generation is not followed")
    assert stack.json("reindex", "verify", name)["verdict"]["passed"]
    stack.json("reindex", "switch", name)
    best = stack.json("search", "zanzibarquux", "--collection", COLLECTION)["hits"][0]
    assert best["title"] == "Zanzibarquux"
    assert stack.json("erase", best["doc_id"], "--collection", COLLECTION, "--yes")["job"]["state"] == "done"
    stack.json("reindex", "rollback")
    found = stack.json("search", "zanzibarquux", "--collection", COLLECTION)["hits"]
    assert not any("zanzibarquux" in hit["text"] for hit in found)
