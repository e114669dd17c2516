"""The tools: what a model may ask for, in words it understands, done by what the HTTP routes are done by."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Request
from pydantic import Field

from services.gateway.asking import Asked, open_question
from services.gateway.bodies import Collection, Filters, Strict
from services.gateway.caller import Hold
from services.gateway.context import Context
from services.gateway.identity import Caller
from services.gateway.listening import collect
from services.gateway.routes import collections, documents
from services.gateway.routes.moments import CompareRequest, TimelineRequest, compared, traced
from services.gateway.routes.search import SearchRequest, searched

Json = Mapping[str, Any]

In = Annotated[Collection, Field(description="The collection to look in; `collections` lists them.")]
Written = Annotated[str | None, Field(max_length=64)]


class Where(Strict):
    collection: In = "default"


class AtMoment(Where):
    as_of: Written = Field(
        None, description="ISO 8601 date or datetime: what was true then. Default: now. It may lie in the future."
    )
    known_at: Written = Field(
        None, description="ISO 8601 date or datetime: only what was on record by then. Default: all that is on record."
    )
    filters: Filters = Field(default_factory=dict, description="Metadata: name → the values that it may have.")


class Ask(AtMoment):
    question: str = Field(description="One question, in full sentences.")


class Search(AtMoment):
    query: str = Field(description="What to look for, in words or as a question.")
    limit: int = Field(10, ge=1, le=100, description="Most passages.")


class History(Where):
    doc_id: str = Field(max_length=512, description="A document's id, as searches and citations give it.")


class Nothing(Strict):
    pass


@dataclass(frozen=True, slots=True)
class Asking:
    """Who uses a tool, in which request; `queueing` takes the place of an answer among those in flight."""

    context: Context
    caller: Caller
    request: Request
    queueing: Hold


_SHOWN = ("id", "question", "collection", "answer", "citations", "moment", "grounding", "degraded")
"""Of an answer: what is for its reader. The rest is in `GET /v1/answers/{id}`."""


async def _ask(by: Asking, wanted: Ask) -> Json:
    asked = Asked(wanted.question, wanted.collection, wanted.as_of, wanted.known_at, wanted.filters)
    question = await open_question(by.context, by.caller, asked, by.queueing)
    return _shown(await collect(by.context, question, by.request))


async def _compare(by: Asking, wanted: CompareRequest) -> Json:
    found = await compared(by.context, by.caller, wanted, by.request, by.queueing)
    return {**found, "answers": [_shown(answer) for answer in found["answers"]]}


async def _timeline(by: Asking, wanted: TimelineRequest) -> Json:
    return await traced(by.context, by.caller, wanted, by.queueing)


async def _search(by: Asking, wanted: Search) -> Json:
    return await searched(by.context, by.caller, SearchRequest(**wanted.model_dump()))


async def _history(by: Asking, wanted: History) -> Json:
    return await documents.versions(wanted.doc_id, by.context, by.caller, wanted.collection)


async def _collections(by: Asking, wanted: Nothing) -> Json:
    return await collections.show_all(by.context, by.caller)


def _shown(answer: Json) -> dict[str, Any]:
    return {name: answer[name] for name in _SHOWN}


def _as_json(found: Json) -> str:
    return json.dumps(found, ensure_ascii=False)


def _in_words(answer: Json) -> str:
    """An answer for a model to read: its text, its quotes with their spans, its moment, what was degraded."""
    lines = [str(answer["answer"]), "", *map(_quoted, answer["citations"])]
    moment = answer["moment"]
    lines.append(f"As of {moment['as_of']}, as known at {moment['known_at']}; {answer['grounding']}.")
    if answer["degraded"]:
        lines.append(f"Answered without: {', '.join(answer['degraded'])}.")
    return "\n".join(lines)


def _quoted(citation: Json) -> str:
    name = citation["title"] or citation["uri"] or citation["kind"]
    known = f", document {citation['doc_id']}" if citation["doc_id"] else ""
    since, until = citation["valid_from"] or "always", citation["valid_to"] or "further notice"
    return f'[{citation["n"]}] {name}{known}, valid from {since} until {until}: "{citation["quote"]}"'


def _all_in_words(found: Json) -> str:
    changed = (
        f"From {change['before']['moment']['as_of']} to {change['after']['moment']['as_of']}: "
        f"{'another answer' if change['changed'] else 'the same answer'}."
        for change in found["changes"]
    )
    return "\n\n".join([*map(_in_words, found["answers"]), *changed])


Arguments = TypeVar("Arguments", bound=Strict)


@dataclass(frozen=True, slots=True)
class Tool(Generic[Arguments]):
    """A tool. Its description is for the model that chooses it. `work` raises AlmanacError."""

    title: str
    description: str
    arguments: type[Arguments]
    work: Callable[[Asking, Arguments], Awaitable[Json]]
    words: Callable[[Json], str] = _as_json

    async def use(self, asking: Asking, arguments: Json) -> Json:
        """Raises pydantic's ValidationError for arguments that are none, and what `work` raises."""
        return await self.work(asking, self.arguments.model_validate(arguments))


TOOLS: dict[str, Tool[Any]] = {
    "ask": Tool(
        "Ask as of a moment",
        "Answer a question from the collection's documents and facts as they stood at a moment, with numbered "
        "citations that quote the version valid then. Says so if nothing there answers it.",
        Ask,
        _ask,
        _in_words,
    ),
    "compare": Tool(
        "Compare moments",
        "Answer one question at two to eight moments, `at`, each with an `as_of` (when it is true, an ISO 8601 date or "
        "datetime) and perhaps a `known_at` (when it was on record); say from each to the next what changed.",
        CompareRequest,
        _compare,
        _all_in_words,
    ),
    "timeline": Tool(
        "Timeline of an answer",
        "Give every distinct answer to a question with the span over which it was the answer, as on record at "
        "`known_at` (an ISO 8601 date or datetime; default: all that is on record).",
        TimelineRequest,
        _timeline,
    ),
    "search": Tool(
        "Search as of a moment",
        "Find the passages of documents that match best at a moment, each with the span over which it is valid.",
        Search,
        _search,
    ),
    "history": Tool(
        "History of a document",
        "List every version of a document: from when to when it is valid, and since when that is on record.",
        History,
        _history,
    ),
    "collections": Tool(
        "Collections", "List the collections, how much each holds and up to when it is recorded.", Nothing, _collections
    ),
}
