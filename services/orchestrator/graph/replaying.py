"""An answer given again as it was recorded: the same question, moment and generation, held against the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from services.catalog.answers import Stored
from services.catalog.records import Generation
from services.catalog.state import all_generations, live_generation
from services.common.errors import Conflict
from services.orchestrator.graph.answer import Answer, Event, Question
from services.orchestrator.graph.executor import calling
from services.orchestrator.graph.nodes import Nodes
from services.orchestrator.graph.patience import NodeFailed
from services.orchestrator.graph.run import answer

What = Literal["generation", "models", "nodes", "passages", "features", "fact", "evidence", "prompt", "text"]
Why = Literal[
    "erased", "other generation", "other model", "degraded", "approximate search", "other wording", "unexplained"
]
_GATEWAY_LOST = ("broker", "worker")
"""Lost before the graph began; it answers the same without them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What came out otherwise, why, and how, for people."""

    what: What
    why: Why
    detail: str


@dataclass(frozen=True, slots=True)
class Replay:
    """How an answer compares with its record.

    exact: whether the search was exhaustive then, and so now. overlap: the share of the recorded passages
    that were found again, 1 where none were recorded; None where nothing could be run again.
    """

    question: Question
    generation: str
    exact: bool
    differences: tuple[Difference, ...]
    overlap: float | None = None
    again: Answer | None = None

    @property
    def identical(self) -> bool:
        return not self.differences


async def replay(nodes: Nodes, stored: Stored) -> Replay:
    """Run the graph again for a finished answer; nothing is recorded.

    The model writes again only where one wrote then and the same one is served. Raises Conflict for an answer recorded
    without its basis, and what `run.answer` raises.
    """
    question, record = Question.from_json(stored.request), stored.record
    if record.get("erased"):
        gone = Difference("evidence", "erased", "a document it cited was erased, and its text and question with it")
        return Replay(question, record["generation"], record["exact"], (gone,))
    if "basis" not in record:
        raise Conflict("the answer was recorded without what a replay is held against; ask its question again")
    generation = await _generation(nodes, question)
    known = [*_other_generation(question, generation)]
    model = record["models"].get("generator", "")
    served = await _served(nodes) if model else ""
    known += _other_model(model, served)
    exact = bool(record["exact"])
    rerun = replace(question, generation=generation, generate=bool(model) and served == model, exact=exact)
    again = await answer(nodes, rerun, _silent)
    held = _Held(stored, again.to_json(), known, exact)
    return Replay(question, generation.name, exact, tuple(held.differences()), held.overlap, again)


async def _silent(_: Event) -> None:
    return None


async def _generation(nodes: Nodes, question: Question) -> Generation:
    """The question's own generation, or the live one where that was dropped."""
    kept = await nodes.catalog.reading(all_generations)
    if any(one.name == question.generation.name for one in kept):
        return question.generation
    return await nodes.catalog.reading(live_generation)


async def _served(nodes: Nodes) -> str:
    """The model that would write now, empty while the generator does not answer."""
    try:
        with calling("generator"):
            return (await nodes.generator.models())[0]
    except NodeFailed:
        return ""


def _other_generation(question: Question, now: Generation) -> Iterator[Difference]:
    then = question.generation
    if now.name != then.name:
        detail = f"{then.name} was dropped; replayed on {now.name}, which is live"
        yield Difference("generation", "other generation", detail)


def _other_model(then: str, now: str) -> Iterator[Difference]:
    if then and not now:
        yield Difference("models", "degraded", f"{then} wrote it, and the generator does not answer now")
    elif then != now:
        yield Difference("models", "other model", f"{then} wrote it, and {now} is served now")


class _Held:
    """A record and what the same question gave again, both as JSON."""

    def __init__(self, stored: Stored, again: Mapping[str, Any], known: Sequence[Difference], exact: bool) -> None:
        self._then, self._now, self._known, self._exact = stored.record, again, known, exact
        self._erasures = stored.erasures
        self._before, self._after = self._then["basis"], again["basis"]

    @property
    def overlap(self) -> float:
        then = _ids(self._before)
        return round(len(set(then) & set(_ids(self._after))) / len(then), 4) if then else 1.0

    def differences(self) -> Iterator[Difference]:
        yield from self._known
        yield from self._nodes()
        yield from self._passages()
        if _features(self._before) != _features(self._after) and not self._changed(_ids):
            yield Difference("features", self._why(), "their values are others")
        if self._before["fact_id"] != self._after["fact_id"]:
            yield Difference("fact", self._why(), _turned(self._before["fact_id"], self._after["fact_id"]))
        if self._changed(_evidence):
            kept = len(set(_evidence(self._before)) & set(_evidence(self._after)))
            yield Difference("evidence", self._why(), f"{kept} of {len(_evidence(self._before))} quotes came again")
        yield from self._written()

    def _nodes(self) -> Iterator[Difference]:
        then, now = (sorted(set(one["degraded"]) - {*_GATEWAY_LOST}) for one in (self._then, self._now))
        if then != now:
            told = [f"{when} without {', '.join(lost)}" for when, lost in (("given", then), ("replayed", now)) if lost]
            yield Difference("nodes", "degraded", "; ".join(told))

    def _passages(self) -> Iterator[Difference]:
        then, now = _passages(self._before), _passages(self._after)
        if then == now:
            return
        if len(then) == len(now) and sorted(then) == sorted(now):
            detail = "the same ones in another order"
        else:
            detail = f"{round(self.overlap * len(then))} of {len(then)} were found again, {len(now)} in all"
        yield Difference("passages", self._why(), detail)

    def _written(self) -> Iterator[Difference]:
        """The prompt and the text, where the same model wrote again, or none did either time."""
        if any(known.what == "models" for known in self._known):
            return
        prompts = (self._before["prompt_sha256"], self._after["prompt_sha256"])
        if prompts[0] != prompts[1]:
            yield Difference("prompt", self._why(), "the messages to the model are others")
        if self._then["answer"] != self._now["answer"]:
            wording: Why = "other wording" if prompts[0] and prompts[0] == prompts[1] else self._why()
            yield Difference("text", wording, "the text is another")

    def _changed(self, part: Any) -> bool:
        return bool(part(self._before) != part(self._after))

    def _why(self) -> Why:
        """The first cause that there is; nothing of this happens to a search that is exact over what it was."""
        lost = self._then["degraded"], self._now["degraded"]
        causes: list[tuple[Why, bool]] = [
            ("erased", bool(self._erasures) or any(not one["passage_id"] for one in self._before["passages"])),
            ("other generation", any(known.what == "generation" for known in self._known)),
            ("degraded", any(set(nodes) - {*_GATEWAY_LOST} for nodes in lost)),
            ("approximate search", not self._exact),
        ]
        return next((why for why, holds in causes if holds), "unexplained")


def _passages(basis: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["passage_id"], one["sha256"]) for one in basis["passages"]]


def _ids(basis: Mapping[str, Any]) -> list[str]:
    return [one["passage_id"] for one in basis["passages"]]


def _features(basis: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {one["passage_id"]: one["features"] for one in basis["passages"]}


def _evidence(basis: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["sha256"]) for one in basis["evidence"]]


def _turned(then: str, now: str) -> str:
    return f"{then or 'none'} then, {now or 'none'} now"
