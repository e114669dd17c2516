"""What goes into the graph and what comes out: the question, its citations, the answer, and the events on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.catalog.answers import FAILED
from services.catalog.records import Generation
from services.common.moment import OPEN_END, OPEN_START, Moment, format_instant
from services.common.nodes.scope import Scope

Grounding = Literal["generated", "quoted", "abstained"]
EventKind = Literal["step", "citation", "text", "done", "error", "alive"]


def _fields(item: Any) -> dict[str, Any]:
    """The fields of a dataclass alone; dataclasses.asdict copies whatever it comes across, which takes long."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its moment resolved and its generation read once; both pinned from here on.

    `key_id`: the key that asked, empty for none. `weights`: of features in ranking; empty keeps the retriever's order.
    `exact`: search exhaustively, whatever the generation's funnel. `phrase`: the question's own words that `as_of` was
    taken from, empty where it was not. `original`: a follow-up as it was put, where `text` was made to stand alone.
    """

    answer_id: str
    tenant: str
    collection: str
    text: str
    moment: Moment
    generation: Generation
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    generate: bool = True
    max_tokens: int = 96
    adapter: str = ""
    key_id: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    exact: bool = False
    phrase: str = ""
    original: str = ""

    @property
    def scope(self) -> Scope:
        return Scope(self.tenant, self.collection, self.generation.name, self.moment)

    def to_json(self) -> dict[str, Any]:
        generation = {**_fields(self.generation), "funnel": self.generation.funnel.to_json()}
        return {**_fields(self), "moment": _fields(self.moment), "generation": generation}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Question:
        pinned = {"moment": Moment(**data["moment"]), "generation": Generation.from_json(data["generation"])}
        return cls(**{**data, **pinned})


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote and where it stands: `quote` is exactly the version's text at [start, end).

    A fact is cited with its answer as the quote; `doc_id` is then empty and `uri` its source.
    """

    n: int
    kind: Literal["passage", "fact"]
    doc_id: str
    version_id: str
    passage_id: str
    title: str
    uri: str
    quote: str
    start: int
    end: int
    valid_from: int
    valid_to: int
    recorded_from: int
    score: float
    dated: bool = True
    page: int | None = None
    section: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Times as ISO strings; open ends as null; an undated document says so, and so does one without pages."""
        return {
            **_fields(self),
            "section": list(self.section),
            "valid_from": iso(self.valid_from),
            "valid_to": iso(self.valid_to),
            "recorded_from": iso(self.recorded_from),
        }


@dataclass(frozen=True, slots=True)
class Considered:
    """A passage that evidence was chosen from. sha256: of its text. features: name → value, where ranking read them."""

    passage_id: str
    doc_id: str
    sha256: str
    features: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cited:
    """A quote by the id of its passage, or of its fact, and its SHA-256."""

    id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rests on, without a word of text: passages as ranked, the fact, the evidence as numbered.

    prompt_sha256: of the messages sent to the generator; empty where nothing was.
    """

    passages: tuple[Considered, ...] = ()
    fact_id: str = ""
    evidence: tuple[Cited, ...] = ()
    prompt_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            **_fields(self),
            "passages": [_fields(passage) for passage in self.passages],
            "evidence": [_fields(cited) for cited in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with all that is needed to check it and to run it again.

    exact: whether passages and canonical questions were searched exhaustively. retrieved: the documents considered.
    similarity: the best cosine among their passages, None without one. trace: how each step went, in the order they
    began (executor.Taken).
    moment_from: "question" where `as_of` is what the words moment_phrase name; else empty.
    original: the follow-up that `question` was made of, for it to stand alone; empty where it is the client's own.
    cached_from: the id of the answer that this one repeats, empty for one given afresh.
    """

    id: str
    question: str
    collection: str
    answer: str
    citations: Sequence[Citation]
    moment: Moment
    grounding: Grounding
    degraded: Sequence[str]
    timings_ms: Mapping[str, float]
    usage: Mapping[str, int]
    models: Mapping[str, str]
    generation: str
    exact: bool = True
    retrieved: Sequence[str] = ()
    similarity: float | None = None
    trace_id: str = ""
    trace: Sequence[Mapping[str, Any]] = ()
    basis: Basis = Basis()
    moment_from: Literal["", "question"] = ""
    moment_phrase: str = ""
    original: str = ""
    cached_from: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            **_fields(self),
            "citations": [citation.to_json() for citation in self.citations],
            "moment": moment_json(self.moment),
            "basis": self.basis.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something a reader of the answer is told as it happens."""

    kind: EventKind
    data: Mapping[str, Any]


def ending(state: str, record: Mapping[str, Any]) -> Event:
    """The last event of an answer whose record is in this state: `done` with it, or `error` with the problem."""
    return Event("error", {"problem": record}) if state == FAILED else Event("done", {"answer": record})


Emit = Callable[[Event], Awaitable[None]]
"""Where events go: the stream in a worker, the connection itself in the gateway, a list in a test."""


def iso(instant: int) -> str | None:
    """An instant for people; an open end is none."""
    return None if instant in (OPEN_START, OPEN_END) else format_instant(instant)


def moment_json(moment: Moment) -> dict[str, str]:
    return {"as_of": format_instant(moment.as_of), "known_at": format_instant(moment.known_at)}
