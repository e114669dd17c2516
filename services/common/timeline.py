"""Bitemporal updates as pure functions, and the naive log replay that is their oracle.

A timeline is what one document (or one canonical question) said over valid time. The log is append-only: each
assertion says "over this span, this is the content" (or nothing, for a withdrawal), and the last one recorded wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.moment import OPEN_END, Moment, Span

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Assertion(Generic[Content]):
    """One entry of the log. `content` None withdraws whatever was said over the span."""

    valid: Span
    recorded: int
    content: Content | None


@dataclass(frozen=True, slots=True)
class Piece(Generic[Content]):
    """A stretch of valid time over which the newest record says `content`."""

    valid: Span
    content: Content


@dataclass(frozen=True, slots=True)
class Splice(Generic[Content]):
    """What an assertion does to the newest record: pieces that end being on record, pieces that begin to be."""

    close: tuple[Piece[Content], ...]
    add: tuple[Piece[Content], ...]


def replay(log: Iterable[Assertion[Content]], moment: Moment) -> Content | None:
    """The oracle: what the log, read naively, says at the moment."""
    said: Content | None = None
    for entry in log:
        if entry.recorded <= moment.known_at and moment.as_of in entry.valid:
            said = entry.content
    return said


def assertion_span(current: Sequence[Piece[Content]], start: int, end: int | None) -> Span:
    """The span an assertion covers: without an end it lasts until the next change already on record.

    So a version that arrives late, with an earlier `valid_from`, does not overwrite the later ones, nor does it bring
    back what has ended.
    """
    if end is not None:
        return Span(start, end)
    edges = (edge for piece in current for edge in (piece.valid.start, piece.valid.end))
    return Span(start, min((edge for edge in edges if edge > start), default=OPEN_END))


def splice(current: Sequence[Piece[Content]], valid: Span, content: Content | None) -> Splice[Content]:
    """Lay an assertion over the newest record.

    A piece the assertion cuts is closed and its remainders are added, so a piece, once on record, never changes.
    Saying again what is already said over the whole span does nothing.
    """
    cut = [piece for piece in current if piece.valid.overlaps(valid)]
    if content is None and not cut:
        return Splice((), ())
    if _says_already(cut, valid, content):
        return Splice((), ())
    remainders = [Piece(rest, piece.content) for piece in cut for rest in piece.valid.minus(valid)]
    added = [] if content is None else [Piece(valid, content)]
    return Splice(tuple(cut), tuple(sorted(remainders + added, key=lambda piece: piece.valid)))


def _says_already(cut: Sequence[Piece[Content]], valid: Span, content: Content | None) -> bool:
    if content is None or any(piece.content != content for piece in cut):
        return False
    return not _uncovered(valid, [piece.valid for piece in cut])


def _uncovered(valid: Span, spans: Sequence[Span]) -> list[Span]:
    left = [valid]
    for span in spans:
        left = [rest for piece in left for rest in piece.minus(span)]
    return left


def apply_splice(current: Sequence[Piece[Content]], change: Splice[Content]) -> list[Piece[Content]]:
    """The newest record after a splice, in order of valid time."""
    kept = [piece for piece in current if piece not in change.close]
    return sorted([*kept, *change.add], key=lambda piece: piece.valid)


@dataclass(frozen=True, slots=True)
class Statement(Generic[Content]):
    """From `event` on, on record since `created`: the content, None where nothing holds, and until when."""

    event: int
    created: int
    content: Content | None
    until: int


def restate(
    stated: Iterable[int], after: Sequence[Piece[Content]], change: Splice[Content], recorded: int
) -> list[Statement[Content]]:
    """A change as normalized statements, so that "the latest event ≤ as_of among those created ≤ known_at" is right.

    `stated` are the events ever stated for this timeline, `after` the newest record once the change is in. Every
    boundary the change touches is stated again, those written before included: an older statement inside a changed
    piece would otherwise come later in valid time and win.
    """
    touched = [piece.valid for piece in (*change.close, *change.add)]
    edges = {edge for span in touched for edge in (span.start, span.end)}
    edges |= {event for event in stated if any(event in span for span in touched)}
    return [_statement(event, recorded, after) for event in sorted(edges) if event < OPEN_END]


def _statement(event: int, recorded: int, after: Sequence[Piece[Content]]) -> Statement[Content]:
    for piece in after:
        if event in piece.valid:
            return Statement(event, recorded, piece.content, piece.valid.end)
    following = min((piece.valid.start for piece in after if piece.valid.start > event), default=OPEN_END)
    return Statement(event, recorded, None, following)
