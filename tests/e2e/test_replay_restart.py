"""Answers given by a real stack replay identically once all of it was restarted, whatever was recorded since.

A generated past of documents and facts is asked about at random moments, 8 questions at a time; then new documents and
corrections of old ones follow; then every process is stopped, the stack is started again over the same home, and each
answer is replayed. ALMANAC_PROPERTY_ROWS sets how many answers there are, up to 1000; ten times as many passages come
after them. A failure names the answer and prints its seed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROWS
from tests.support import Stack, running_stack

ANSWERS = min(1_000, max(40, ROWS // 25))
LATER = 10 * ANSWERS
"""Passages recorded after the answers, at least."""
AT_ONCE = 8
TRIES = 10
COLLECTION = "tolls"
BRIDGES = max(30, ANSWERS // 4)
QUESTIONS = (
    *2 * ["Who keeps {} Bridge?"],
    *2 * ["What is the toll of {} Bridge?"],
    "How long is {} Bridge?",
    "What do penguins eat in winter?",
)
WRITTEN = max(2, ANSWERS // 50)
"""Of the answers, those that a model writes."""
SETTINGS = {
    "ALMANAC_RETRIEVER_EXACT_BELOW": "0",
    "ALMANAC_RETRIEVER_BUILD_ABOVE": "100",
    "ALMANAC_RANK_RECENCY": "0.5",
    "ALMANAC_RANK_AUTHORITY": "0.25",
    "ALMANAC_ANSWERS_WITHIN_SECONDS": "0",
}
"""Every search but an exact one goes by codes or a graph, the features of documents weigh in the order, and all that is
asked is admitted, however slow the machine is."""
PEOPLE = (
    "Alba Winter",
    "Bram Stone",
    "Cora Field",
    "Dario Marsh",
    "Edda Brook",
    "Finn Heath",
    "Greta Moor",
    "Hugo Vale",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + ANSWERS + LATER // 10)]
Json = dict[str, Any]


class Corpus:
    """Bridges, each with a keeper and a toll that change over time, and are sometimes put right afterwards."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.bridges = [self._name() for _ in range(BRIDGES)]

    def history(self) -> tuple[list[Json], list[Json]]:
        """Documents and facts with their record times, sorted."""
        documents = [row for name in self.bridges for row in self._imported(self._document, name)]
        facts = [row for name in self.bridges[::2] for row in self._imported(self._fact, name)]
        return _sorted(documents), _sorted(facts)

    def later(self) -> tuple[list[Json], list[Json]]:
        """New documents and corrections of old ones, four passages each, and corrected facts."""
        new = [self._document(self._name(), self._day()) for _ in range(LATER // 8)]
        corrected = {(name, str(day)): self._document(name, day) for name, day in self._places(LATER // 8 + BRIDGES)}
        facts = {(name, str(day)): self._fact(name, day) for name, day in self._places(BRIDGES)}
        return [*new, *corrected.values()], list(facts.values())

    def question(self) -> Json:
        """What is asked about a bridge, at which moment, and how."""
        name, text = self.dice.choice(self.bridges), self.dice.choice(QUESTIONS)
        moment = {"as_of": str(self._day()), "known_at": self.dice.choice([None, str(self._day()), str(self._day())])}
        given = {axis: day for axis, day in moment.items() if day is not None}
        fields = {"collection": COLLECTION, "generate": False, "exact": self.dice.random() < 0.5}
        return {"question": text.format(name), **given, **fields}

    def _places(self, number: int) -> Iterator[tuple[str, datetime]]:
        for _ in range(number):
            yield self.dice.choice(self.bridges), self._day()

    def _imported(self, row: Callable[[str, datetime], Json], name: str) -> Iterator[Json]:
        days = sorted(self._day(last=1990) for _ in range(3))
        for day in days:
            learned = day + timedelta(days=self.dice.choice([0, 1, 400, 3_000]), seconds=self.dice.random() * 80_000)
            yield {**row(name, day), "recorded_at": learned.isoformat()}

    def _document(self, name: str, day: datetime) -> Json:
        toll, keeper, length = self.dice.randint(2, 99), self.dice.choice(PEOPLE), self.dice.randint(20, 900)
        text = (
            f"## Tolls\n\nThe toll of {name} Bridge is {toll} marks. It is paid at the east end.\n\n"
            f"## The bridge\n\n{keeper} keeps {name} Bridge. {name} Bridge is {length} metres long."
        )
        authority = round(self.dice.random(), 2)
        times = {"valid_from": day.isoformat(), "metadata": {"authority": authority}}
        return {"id": f"bridges/{name.lower()}", "title": f"{name} Bridge", "text": text, **times}

    def _fact(self, name: str, day: datetime) -> Json:
        asked = {"question_id": f"keeper-{name}", "question": f"Who keeps {name} Bridge?"}
        return {**asked, "answer": self.dice.choice(PEOPLE), "valid_from": day.isoformat(), "source": "The register"}

    def _name(self) -> str:
        syllables = self.dice.choices(
            ["bar", "del", "fin", "gor", "hal", "kem", "lun", "mor", "nes", "tor", "wick"], k=3
        )
        return "".join(syllables).title() + self.dice.choice(["by", "ford", "ham", "stead", "ton"])

    def _day(self, last: int = 2020) -> datetime:
        return datetime(self.dice.randint(1950, last), 1, 1, tzinfo=UTC) + timedelta(days=self.dice.randrange(365))


def _sorted(rows: Sequence[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: datetime.fromisoformat(row["recorded_at"]))


def record(stack: Stack, directory: Path, documents: Sequence[Json], facts: Sequence[Json], *how: str) -> int:
    """Take the rows in; how many passages that were."""
    files = {"documents.jsonl": documents, "facts.jsonl": facts}
    for name, rows in files.items():
        (directory / name).write_text("\n".join(map(json.dumps, rows)))
    told = ("ingest", *(str(directory / name) for name in files), *how, "--collection", COLLECTION, "--wait")
    counts = json.loads(stack.almanac(*told, "--json", timeout=300 + LATER // 5).stdout)
    assert counts["failed"] == 0, counts
    return int(counts["passages"])


async def each(stack: Stack, work: Sequence[tuple[str, Json]]) -> list[Json]:
    """The responses to posts, in order, AT_ONCE at a time; again where a busy machine kept a node from answering."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def post(client: httpx.AsyncClient, path: str, body: Json) -> Json:
        for _ in range(TRIES):
            async with turns:
                response = await client.post(path, json=body)
            found: Json = response.json()
            if response.status_code == 200 and not lost_in(found):
                return found
            assert response.status_code in (200, 503, 504), f"{path} {body}: {response.text}"
            await asyncio.sleep(1)
        raise AssertionError(f"{path} {body}: {TRIES} times without a node, at last {response.text}")

    async with httpx.AsyncClient(base_url=stack.url, timeout=120, trust_env=False) as client:
        posts: list[Awaitable[Json]] = [post(client, path, body) for path, body in work]
        return list(await asyncio.gather(*posts))


def lost_in(found: Json) -> set[str]:
    """The nodes that an answer, or one given again, had to do without; gateways answer the same without a worker."""
    answer = found["answer"] if "identical" in found else found
    return set(answer["degraded"]) - {"worker", "broker"}


def quoted(answer: Json) -> dict[str, Any]:
    """What an answer rests on, without the features, which are held by the replay itself."""
    basis = answer["basis"]
    passages = [(one["passage_id"], one["sha256"]) for one in basis["passages"]]
    return {"passages": passages, "evidence": basis["evidence"], "fact": basis["fact_id"]}


def test_answers_replay_identically_after_a_restart_and_all_that_was_recorded_since(seed, tmp_path):
    dice = random.Random(seed)
    corpus, seen = Corpus(dice), Counter[str]()
    with running_stack(tmp_path / "home", **SETTINGS) as stack:
        record(stack, tmp_path, *corpus.history(), "--history")
        questions = [corpus.question() for _ in range(ANSWERS)]
        for question in dice.sample(questions, WRITTEN):
            question["generate"] = True
        given = asyncio.run(each(stack, [("/v1/answers", question) for question in questions]))
        later = record(stack, tmp_path, *corpus.later())
        stack.restart()
        again = asyncio.run(each(stack, [(f"/v1/answers/{answer['id']}/replay", {}) for answer in given]))
    overlaps = []
    for question, answer, replayed in zip(questions, given, again, strict=True):
        told = f"seed {seed}: {question}, answer {answer['id']}: {replayed['differences']}"
        assert replayed["exact"] == answer["exact"], told
        found = {one["why"] for one in replayed["differences"]} - ({"other wording"} if question["generate"] else set())
        if replayed["exact"]:
            assert not found and quoted(replayed["answer"]) == quoted(answer), told
        else:
            assert not question["exact"] and found <= {"approximate search"}, told
            overlaps.append(replayed["overlap"])
        seen["fact" if answer["basis"]["fact_id"] else answer["grounding"]] += 1
        seen["exact" if replayed["exact"] else "approximate"] += 1
        seen["identical"] += replayed["identical"]
    print(f"seed {seed}: {ANSWERS} answers, {later} passages later: {dict(seen)}, overlaps {Counter(overlaps)}")
    assert later >= LATER
    assert all(seen[kind] for kind in ("fact", "quoted", "abstained", "exact", "approximate"))
