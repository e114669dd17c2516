"""An answer's stream taken up again: what a client has of it is in the id of its last event, and only the rest is told.

The id says which answer, and how much of it: steps, citations, characters of text, and a CRC-32 of that text. It holds
on any gateway, after a restart and once the answer is only in the catalog, for none of it is kept anywhere. Text is
told only where it continues the text that the client has: an answer begun anew may read differently.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from fastapi.responses import Response
from sqlalchemy import Connection

from services.catalog import answers
from services.common.errors import Conflict, InvalidRequest
from services.gateway.caller import Caller, Hold
from services.gateway.context import Context
from services.gateway.dispatch import Answering, Dispatcher, Outcome
from services.gateway.listening import HEARTBEAT, LAST, listen, sse, stream
from services.orchestrator.graph.answer import Emit, Event, Question, ending

_ID = re.compile(r"([0-9a-f-]{1,64})/(?:(end)|(\d{1,6})\.(\d{1,6})\.(\d{1,9})\.([0-9a-f]{8}))")
_COUNTED = {"step": "steps", "citation": "citations"}


@dataclass(frozen=True, slots=True)
class Place:
    """How far a client has come in an answer. chars: of its text, code points. check: CRC-32 of that text in UTF-8."""

    steps: int = 0
    citations: int = 0
    chars: int = 0
    check: int = 0
    ended: bool = False

    def after(self, event: Event) -> Place:
        """The place once the event is told."""
        if event.kind in _COUNTED:
            name = _COUNTED[event.kind]
            return replace(self, **{name: getattr(self, name) + 1})
        if event.kind == "text":
            text = str(event.data["text"])
            return replace(self, chars=self.chars + len(text), check=crc32(text.encode(), self.check))
        return replace(self, ended=True)

    def event_id(self, answer_id: str) -> str:
        """As a client brings it back in `Last-Event-ID`."""
        where = "end" if self.ended else f"{self.steps}.{self.citations}.{self.chars}.{self.check:08x}"
        return f"{answer_id}/{where}"


START = Place()
RETRY_MS = 1_000
"""In how many milliseconds a client that was cut off is to come back."""


def place_in(answer_id: str, last_event_id: str) -> Place:
    """Where the client stands; at the start without an id. Raises InvalidRequest for an id of no event of it."""
    if not last_event_id:
        return START
    named, place = named_in(last_event_id)
    if named != answer_id:
        raise InvalidRequest("Last-Event-ID: it is of another answer's stream; leave it out to begin at the start")
    return place


def named_in(last_event_id: str) -> tuple[str, Place]:
    """The answer and the place that an event's id names. Raises InvalidRequest."""
    found = _ID.fullmatch(last_event_id)
    if found is None:
        raise InvalidRequest("Last-Event-ID: it is no id of an answer's event; leave it out to begin at the start")
    if found[2]:
        return found[1], Place(ended=True)
    return found[1], Place(int(found[3]), int(found[4]), int(found[5]), int(found[6], 16))


def following(context: Context, ended: Outcome | None) -> Answering:
    """Tells the events of an answer that was asked before, from the first one on; from its record once it has ended."""
    dispatcher = Dispatcher(context.nodes, context.broker, context.metrics, context.settings.answer_seconds)
    if ended is None:
        return dispatcher.follow

    async def recorded(question: Question, emit: Emit) -> None:
        state, record = ended
        for event in _recorded(state, record):
            await emit(event)

    return recorded


def _recorded(state: str, record: Mapping[str, Any]) -> list[Event]:
    """An answer's events as its record has them: no steps, and its text in one piece."""
    if state == answers.FAILED:
        return [ending(state, record)]
    cited = [Event("citation", {"citation": one}) for one in record["citations"]]
    return [*cited, Event("text", {"text": record["answer"]}), ending(state, record)]


async def rest(
    context: Context, question: Question, answering: Answering | None = None, has: Place = START
) -> AsyncGenerator[Sequence[tuple[Event, Place]], None]:
    """The events beyond the place that come together, each with the place that it leads to; none after each silence."""
    told = START
    silence, linger = context.settings.heartbeat_seconds, context.settings.resume_seconds
    async with aclosing(listen(context, question, silence, answering, linger)) as events:
        async for came in events:
            new = []
            for event in came:
                before, told = told, told.after(event)
                beyond = _beyond(event, before, has)
                if beyond is not None:
                    new.append((beyond, told))
                if beyond is not None and beyond.kind in LAST:
                    break
            if new or not came:
                yield new
            if new and new[-1][0].kind in LAST:
                return


def _beyond(event: Event, told: Place, has: Place) -> Event | None:
    """What of an event the client does not have yet: nothing, its rest, all of it, or that it cannot be continued."""
    if event.kind in _COUNTED:
        name = _COUNTED[event.kind]
        return event if getattr(told, name) >= getattr(has, name) else None
    missing = has.chars - told.chars
    if event.kind != "text":
        return _differs() if missing > 0 and event.kind == "done" else event
    if missing <= 0:
        return event
    text = str(event.data["text"])
    if len(text) < missing:
        return None
    if crc32(text[:missing].encode(), told.check) != has.check:
        return _differs()
    return Event("text", {"text": text[missing:]}) if text[missing:] else None


def _differs() -> Event:
    error = Conflict("the answer does not continue what was told of it before: it was begun anew, or erased; ask again")
    return Event("error", {"problem": error.problem()})


async def as_sse(
    context: Context, question: Question, answering: Answering | None = None, has: Place = START
) -> AsyncIterator[str]:
    """An answer's events beyond the place as server-sent events, each with its id; before any, an id alone.

    That first block is no event (WHATWG HTML, section 9.2.6): it tells a client what to come back with, and when.
    """
    yield f"retry: {RETRY_MS}\nid: {has.event_id(question.answer_id)}\n\n"
    async with aclosing(rest(context, question, answering, has)) as events:
        async for new in events:
            told = (sse(event.kind, event.data, place.event_id(question.answer_id)) for event, place in new)
            yield "".join(told) or HEARTBEAT


async def resume(context: Context, caller: Caller, answer_id: str, has: Place, queueing: Hold) -> Response:
    """The rest of an answer as a stream; 204, which ends an EventSource, where there is none. Raises AnswerNotFound."""

    def read(tx: Connection) -> tuple[Question, Outcome | None]:
        asked = answers.asked(tx, caller.tenant, answer_id)
        return Question.from_json(asked), answers.outcome(tx, answer_id)

    question, ended = await context.catalog.reading(read)
    if has.ended:
        return Response(status_code=204)
    if ended is None:
        await queueing()
    return stream(as_sse(context, question, following(context, ended), has))
