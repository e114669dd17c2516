"""A stack is backed up while it is written to, wiped and restored: it answers as before, without what was erased."""

import json
import shutil
import threading

import pytest

from tests.support import eventually, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MEMORY = {"ALMANAC_GENERATOR_BACKEND": "memory"}
QUESTIONS = ("Who keeps the northern lighthouse?", "What does mill 2 grind?", "Who is the captain of ship 3?")
ERASED, KEPT = ("secret-before", "secret-after"), "no-secret"


def secrets():
    for doc_id, name in zip(ERASED, ("Zanzibarquux", "Xylophonquux"), strict=True):
        yield {"id": doc_id, "title": doc_id, "text": f"The keeper of the {doc_id} lighthouse is called {name}."}
    yield {"id": KEPT, "title": KEPT, "text": "The keeper of the third secret lighthouse is called Yarrow."}


def rows():
    yield {"id": "north", "title": "Lighthouse", "text": "The northern lighthouse is kept by Ada Birch since May."}
    for number in range(6):
        yield {
            "id": f"mill-{number}",
            "title": f"Mill {number}",
            "text": f"Mill {number} grinds corn of field {number}.",
        }
        text = f"The captain of ship {number} is called Captain {number} Reed."
        yield {"id": f"ship-{number}", "title": f"Ship {number}", "text": text}


def answered(stack, moments):
    """Each question's answer at its moment: text, citations, their scores, moment."""
    found = []
    for question, moment in zip(QUESTIONS, moments, strict=True):
        body = {"question": question, "collection": "notes", **moment}
        eventually(lambda body=body: stack.post("/v1/answers", body).status_code == 200, 90, stack.logs())
        answer = stack.ask(question, collection="notes", **moment)
        scores = [citation.pop("score") for citation in answer["citations"]]
        found.append((answer["answer"], answer["citations"], scores, answer["moment"]))
    return found


def check_same(found, before):
    """An index that was built in one go adds up in another order: scores agree but for their last digits."""
    for now, then in zip(found, before, strict=True):
        assert (now[0], now[1], now[3]) == (then[0], then[1], then[3])
        assert now[2] == pytest.approx(then[2], abs=1e-3)


def shown(stack):
    body = {"query": "keeper of the secret lighthouse Zanzibarquux Xylophonquux", "collection": "secrets", "limit": 50}
    hits = stack.post("/v1/search", body).json()["hits"]
    return {hit["doc_id"] for hit in hits}


class Load(threading.Thread):
    """Ingests small files, one after the other, until it is stopped."""

    def __init__(self, stack, directory):
        super().__init__()
        self.stack, self.directory, self.ending = stack, directory, threading.Event()

    def run(self):
        number = 0
        while not self.ending.is_set():
            path = self.directory / f"load-{number}.jsonl"
            path.write_text(
                "".join(json.dumps({"id": f"l{number}-{n}", "text": f"Load {n}."}) + "\n" for n in range(50))
            )
            self.stack.almanac("ingest", str(path), "--collection", "load")
            number += 1


def test_backed_up_under_load_wiped_and_restored_a_stack_answers_the_same_and_shows_nothing_erased(tmp_path):
    home, archive, kept = tmp_path / "home", tmp_path / "backup.tar", tmp_path / "erasures.jsonl"
    for name, given in (("notes", rows()), ("secrets", secrets())):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in given))
    with running_stack(home, **MEMORY) as stack:
        for name in ("notes", "secrets"):
            assert stack.json("ingest", str(tmp_path / f"{name}.jsonl"), "--collection", name, "--wait")["failed"] == 0
        assert shown(stack) == {*ERASED, KEPT}
        stack.json("erase", ERASED[0], "--collection", "secrets", "--yes")
        moments = [
            {name: asked["moment"][name] for name in ("as_of", "known_at")}
            for asked in (stack.ask(question, collection="notes") for question in QUESTIONS)
        ]
        before = answered(stack, moments)
        assert all(text and citations for text, citations, _, _ in before), before
        assert "worker: is heard" in stack.almanac("doctor").stdout
        load = Load(stack, tmp_path)
        load.start()
        try:
            eventually(lambda: stack.json("jobs", "list")["jobs"], 60)
            stack.almanac("backup", str(archive))
        finally:
            load.ending.set()
            load.join()
        assert shown(stack) == {ERASED[1], KEPT}
        stack.json("erase", ERASED[1], "--collection", "secrets", "--yes")
        shutil.copy(home / "erasures.jsonl", kept)
    shutil.rmtree(home)
    stack.almanac("restore", str(archive), "--erasures", str(kept))
    with running_stack(home, **MEMORY) as stack:
        check_same(answered(stack, moments), before)
        assert not shown(stack) & set(ERASED)

        def settled():
            return all(job["state"] not in ("queued", "running") for job in stack.json("jobs", "list")["jobs"])

        eventually(settled, 120, "jobs of the backup are not finished")
        assert {job["state"] for job in stack.json("jobs", "list")["jobs"]} == {"done"}
        assert shown(stack) == {KEPT}
        check_same(answered(stack, moments), before)
