"""What a client has of an answer, as one attempt hands it to the next: its text, and the evidence that this cites."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.moment import OPEN_END, OPEN_START, parse_instant
from services.orchestrator.graph.answer import Citation
from services.orchestrator.graph.evidence import quotable
from services.orchestrator.graph.finding import Evidence
from services.orchestrator.graph.grounding import ABSTENTION


@dataclass(frozen=True, slots=True)
class Released:
    """Text that was told, and the citations told before it. Without text nothing binds the next attempt."""

    text: str = ""
    citations: tuple[Citation, ...] = ()

    @classmethod
    def of(cls, text: str, citations: Sequence[Mapping[str, Any]]) -> Released:
        """citations: as Citation.to_json gives them."""
        return cls(text, tuple(map(_citation, citations)) if text else ())

    @classmethod
    def from_json(cls, data: str) -> Released:
        return cls.of(**json.loads(data))

    def to_json(self) -> str:
        return json.dumps({"text": self.text, "citations": [one.to_json() for one in self.citations]})

    @property
    def is_fact(self) -> bool:
        """Whether it is a fact's answer, which is told at once."""
        return any(citation.kind == "fact" for citation in self.citations)

    @property
    def evidence(self) -> Evidence:
        """The evidence to go on with, so that the numbers in the text stay those of its quotes."""
        quotes = quotable([citation.score for citation in self.citations])
        return Evidence(self.citations, not ABSTENTION.startswith(self.text), quotes)


NOTHING = Released()


def _citation(data: Mapping[str, Any]) -> Citation:
    known = {
        "section": tuple(data["section"]),
        "valid_from": _instant(data["valid_from"], OPEN_START),
        "valid_to": _instant(data["valid_to"], OPEN_END),
        "recorded_from": _instant(data["recorded_from"], OPEN_START),
    }
    return Citation(**{**data, **known})


def _instant(text: str | None, otherwise: int) -> int:
    return otherwise if text is None else parse_instant(text)
