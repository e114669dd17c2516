"""The chat prompt for a small model: what never changes first, so that its cache serves every question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.common.nodes.generator import Message
from services.orchestrator.graph.grounding import Evidence

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTRUCTIONS = (
    "Answer the question in one short sentence, with the words of the evidence. Be concise. End the sentence with the "
    "number of the evidence it rests on, like [1]. Add nothing that the evidence does not say."
)


def build_messages(question: str, evidence: Sequence[Evidence], as_of: int) -> list[Message]:
    """Instructions, then the numbered evidence, then the question as of a date (microseconds since the epoch)."""
    listed = "\n".join(f"[{item.n}] {_titled(item)}" for item in evidence)
    asked = f"Evidence as of {_date(as_of)}:\n{listed}\n\nQuestion: {question.strip()}\nAnswer in one sentence:"
    return [Message("system", _INSTRUCTIONS), Message("user", asked)]


def digest(messages: Sequence[Message]) -> str:
    """SHA-256 of the messages, hexadecimal."""
    sent = json.dumps([[message.role, message.content] for message in messages], ensure_ascii=False)
    return hashlib.sha256(sent.encode()).hexdigest()


def _titled(item: Evidence) -> str:
    quote = " ".join(item.quote.split())
    return f"{item.title}: {quote}" if item.title else quote


def _date(as_of: int) -> str:
    day = _EPOCH + timedelta(microseconds=as_of)
    return f"{day.day} {day:%B} {day.year}"
