"""The plain values that enter and leave the catalog."""

from __future__ import annotations

import hashlib
import json
import uuid
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import InvalidDocument
from services.common.moment import Extent
from services.common.nodes.funnel import PLAIN, Funnel

_NAMESPACE = uuid.UUID("6d0f4f0e-4a4b-5f6e-9c3e-a1a0a0ac0001")


def key(*parts: str) -> str:
    """A UUID (version 5) that names the parts, the same on every machine."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def digest(*parts: str) -> str:
    """SHA-256 over the parts, hexadecimal."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def check_text(*texts: str) -> None:
    """Raises InvalidDocument for what not every database can hold."""
    if any("\x00" in text for text in texts):
        raise InvalidDocument("it holds NUL characters; take them out")


@dataclass(frozen=True, slots=True)
class PassageIn:
    """A chunk of a version: `embedded` is the exact text embedded, [start, end) where its body stands in the text."""

    ordinal: int
    section: Sequence[str]
    start: int
    end: int
    embedded: str


@dataclass(frozen=True, slots=True)
class DocumentIn:
    """A version to be recorded. `valid_from` None means undated; `valid_to` None means until the next change.

    `pages` are the offsets at which pages begin in the text, ascending; empty where there are none.
    """

    doc_id: str
    title: str
    text: str
    uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    valid_from: int | None = None
    valid_to: int | None = None
    recorded_at: int | None = None
    pages: Sequence[int] = ()
    passages: Sequence[PassageIn] = ()

    def version_id(self, tenant: str, collection: str) -> str:
        """Named by the content, so that saying the same again is recognised."""
        described = json.dumps([self.title, self.uri, dict(sorted(self.metadata.items()))], ensure_ascii=False)
        dated = "dated" if self.valid_from is not None else "undated"
        return key("version", tenant, collection, self.doc_id, dated, digest(described, self.text))

    def passage_id(self, tenant: str, collection: str, passage: PassageIn) -> str:
        return key("passage", tenant, collection, self.doc_id, digest(passage.embedded))


@dataclass(frozen=True, slots=True)
class FactIn:
    """A curated answer to a canonical question over a span. Without `question_id` the question names itself.

    `phrasings` are other texts that ask it.
    """

    question: str
    answer: str
    question_id: str = ""
    also_accepted: Sequence[str] = ()
    phrasings: Sequence[str] = ()
    source: str = ""
    valid_from: int | None = None
    valid_to: int | None = None
    recorded_at: int | None = None

    def question_key(self, tenant: str, collection: str) -> str:
        return key("question", tenant, collection, self.question_id or " ".join(self.question.lower().split()))

    def phrased(self, tenant: str, collection: str) -> dict[str, str]:
        """The texts of the phrasings by the keys they are indexed under."""
        question = self.question_key(tenant, collection)
        return {key("phrasing", question, text): text for text in self.phrasings}

    def fact_id(self, tenant: str, collection: str) -> str:
        accepted = json.dumps(list(self.also_accepted), ensure_ascii=False)
        return key("fact", self.question_key(tenant, collection), digest(self.answer, accepted, self.source))


@dataclass(frozen=True, slots=True)
class Located:
    """A passage where it stands at a moment, with its version; what a citation is made of."""

    passage_id: str
    version_id: str
    doc_id: str
    title: str
    uri: str
    section: tuple[str, ...]
    start: int
    end: int
    text: str
    extent: Extent
    dated: bool
    pages: tuple[int, ...] = ()

    def page(self, offset: int) -> int | None:
        """The page, from 1 on, on which the version's text at the offset stands; None where there are no pages."""
        return bisect_right(self.pages, offset) or None


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of the vector index. dimensions: of its encoder's vectors."""

    name: str
    encoder: str
    dimensions: int
    funnel: Funnel = PLAIN
    schema_version: int = 1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Generation:
        return cls(**{**data, "funnel": Funnel.from_json(data["funnel"])})
