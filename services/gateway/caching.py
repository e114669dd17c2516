"""Answers given before, told again where a fresh run could only say the same.

An entry is the id of an answer and nothing of its content, under the SHA-256 of all that the answer depends on. The
content stays in the catalog, where erasures empty it: an entry never outlives what it names. `known_at` is in the key
as the record time pinned for the question, so that entries need not be told of commits; `as_of` as the span around it
in which nothing visible begins or ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

import services.common
import services.orchestrator.graph
from services.catalog import answers, events
from services.catalog.boundaries import Standing, erased, standing
from services.common.errors import AlmanacError
from services.common.moment import OPEN_END, Span, format_instant, instant, now
from services.common.telemetry import trace_id
from services.gateway.dispatch import Answering
from services.gateway.entries import Entries
from services.gateway.metrics import Metrics
from services.orchestrator.graph.answer import Emit, Event, Question, moment_json
from services.orchestrator.graph.costing import saved
from services.orchestrator.graph.nodes import Nodes

log = structlog.get_logger()

_DAY_US = 86_400_000_000
_MODEL_SECONDS = 0.25
"""How long the generator may take to name its model."""
_UNKEYED = ("answer_id", "moment")
_READ = (services.common, services.orchestrator.graph)
"""The packages that say what an answer is made of: prompts, thresholds, steps."""


@dataclass(frozen=True, slots=True)
class Lives:
    """How long entries live, in seconds. pinned: those whose record time and span both lie behind us."""

    newest: float = 3_600.0
    pinned: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an answer is looked for. model: that would write it, empty for none. seconds: of life, if it is kept."""

    key: str
    model: str
    erasures: int
    seconds: float


class CachedAnswering:
    """Answers from the cache, or else by `answering`, and keeps what is whole. `clock`: instants."""

    def __init__(
        self,
        answering: Answering,
        nodes: Nodes,
        entries: Entries,
        metrics: Metrics,
        lives: Lives = Lives(),
        clock: Callable[[], int] = now,
    ) -> None:
        self._answering, self._nodes, self._entries = answering, nodes, entries
        self._metrics, self._lives, self._clock = metrics, lives, clock

    async def answer(self, question: Question, emit: Emit) -> None:
        """Tell every event of the answer, as Answering does."""
        began = time.perf_counter()
        entry = await self._entry(question)
        if entry is not None and (given := await self._given(question, entry, began)) is not None:
            self._metrics.cache.labels("hit").inc()
            self._metrics.answered(given)
            await _tell(given, emit)
            return
        self._metrics.cache.labels("refused" if entry is None else "miss").inc()

        async def keeping(event: Event) -> None:
            if entry is not None and event.kind == "done":
                await self._keep(entry, event.data["answer"])
            await emit(event)

        await self._answering(question, keeping)

    async def _entry(self, question: Question) -> Entry | None:
        """None where nothing may be kept: while something is erased, or the generator or the catalog is away."""
        try:
            found = await self._nodes.catalog.reading(
                lambda tx: standing(tx, question.tenant, question.collection, question.moment)
            )
            async with asyncio.timeout(_MODEL_SECONDS):
                model = (await self._nodes.generator.models())[0] if question.generate else ""
        except (AlmanacError, OperationalError, OSError) as failure:
            log.info("cache_passed_over", answer_id=question.answer_id, reason=str(failure))
            return None
        return None if found is None else self._entry_of(question, found, model)

    def _entry_of(self, question: Question, found: Standing, model: str) -> Entry:
        span = _same(question, found.span)
        clock = self._clock()
        pinned = question.moment.known_at < found.newest and clock not in span
        seconds = self._lives.pinned if pinned else self._lives.newest
        if clock in span:
            seconds = min(seconds, (span.end - clock) / 1_000_000)
        return Entry(key_of(question, span, found.erasures, model), model, found.erasures, seconds)

    async def _given(self, question: Question, entry: Entry, began: float) -> Mapping[str, Any] | None:
        """The answer kept there, recorded anew as the answer to this question; None if there is none any more."""
        source = await self._entries.get(entry.key)
        if source is None:
            return None
        try:
            given = await self._nodes.catalog.writing(lambda tx: _again(tx, question, entry, source, began))
        except OperationalError as failure:
            log.warning("cache_not_recorded", answer_id=question.answer_id, reason=str(failure))
            return None
        if given is None:
            await self._entries.delete(entry.key)
        return given

    async def _keep(self, entry: Entry, answer: Mapping[str, Any]) -> None:
        """Whole answers only, written by the model that the key names."""
        if not answer["degraded"] and answer["models"].get("generator", entry.model) == entry.model:
            await self._entries.set(entry.key, answer["id"], entry.seconds)


def key_of(question: Question, span: Span, erasures: int, model: str) -> str:
    """SHA-256 of all that the answer depends on, hexadecimal. Every field of a question counts, the key too.

    erasures: of the collection, so far: one more, and nothing from before it is found again.
    """
    asked = {name: value for name, value in question.to_json().items() if name not in _UNKEYED}
    when = [span.start, span.end, question.moment.known_at]
    whole = [asked, when, erasures, model, configuration()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@cache
def configuration() -> str:
    """SHA-256, hexadecimal, of the code that answers, its prompts and thresholds in it."""
    found = hashlib.sha256()
    for package in _READ:
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _same(question: Question, span: Span) -> Span:
    """The part of a span around `as_of` where it makes no difference which instant is asked at.

    Features are weighed as old as they are at the very instant; the prompt names the day; facts go by the year.
    """
    as_of = question.moment.as_of
    if question.weights:
        return Span(as_of, as_of + 1)
    alike = _day(as_of) if question.generate else _year(as_of)
    return Span(max(span.start, alike.start), min(span.end, alike.end))


def _day(when: int) -> Span:
    start = when - when % _DAY_US
    return Span(start, start + _DAY_US)


def _year(when: int) -> Span:
    number = int(format_instant(when)[:4])
    start = instant(datetime(number, 1, 1, tzinfo=UTC))
    return Span(start, instant(datetime(number + 1, 1, 1, tzinfo=UTC)) if number < 9999 else OPEN_END)


def _again(tx: Connection, question: Question, entry: Entry, source: str, began: float) -> Mapping[str, Any] | None:
    """Record what the source says as the answer to the question.

    None where it was erased, or erasures have begun since the entry was looked up: one that begins after this finds
    the new answer's row, which is older than it.
    """
    outcome = answers.outcome(tx, source)
    if outcome is None or outcome[0] != answers.DONE or outcome[1].get("erased"):
        return None
    if erased(tx, question.tenant, question.collection) != entry.erasures:
        return None
    given = _copied(outcome[1], question, began)
    return given if events.record_answer(tx, question.answer_id, 1, answers.DONE, given, now()) else None


def _copied(record: Mapping[str, Any], question: Question, began: float) -> dict[str, Any]:
    return {
        **record,
        "id": question.answer_id,
        "moment": moment_json(question.moment),
        "timings_ms": {"cache": round((time.perf_counter() - began) * 1000, 2)},
        "usage": saved(record["usage"]),
        "trace_id": trace_id(),
        "trace": [],
        "cached_from": record["id"],
    }


async def _tell(answer: Mapping[str, Any], emit: Emit) -> None:
    """The events of a run, in their order."""
    await emit(Event("step", {"step": "cache", "ms": answer["timings_ms"]["cache"]}))
    for citation in answer["citations"]:
        await emit(Event("citation", {"citation": citation}))
    await emit(Event("text", {"text": answer["answer"]}))
    await emit(Event("done", {"answer": answer}))
