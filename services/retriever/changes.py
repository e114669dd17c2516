"""What of a stretch's changes is to be applied, given how far the collection already is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.common.errors import InvalidRequest
from services.common.moment import OPEN_END, OPEN_START, Span
from services.common.nodes.retriever import Changes, Close, Point
from services.common.nodes.scope import Stretch


def check(changes: Changes, stretch: Stretch) -> None:
    """Raises InvalidRequest where vectors and upserts disagree, or a change was not recorded inside the stretch."""
    rows = len(changes.upserts)
    if rows and (changes.vectors.ndim != 2 or changes.vectors.shape[0] != rows or not changes.vectors.shape[1]):
        raise InvalidRequest(f"{rows} upserts came with vectors of shape {changes.vectors.shape}")
    if rows and not np.isfinite(changes.vectors).all():
        raise InvalidRequest("a vector holds NaN or infinity")
    for point in changes.upserts:
        _check_upsert(point, stretch)
    for close in changes.closes:
        _check_inside(close.recorded_to, stretch, close.point_id)


def beyond(changes: Changes, watermark: int) -> Changes:
    """The changes recorded after the watermark.

    Those before are in the index already, and doing them again would reopen points that were closed since.
    """
    fresh = [place for place, point in enumerate(changes.upserts) if point.extent.recorded.start > watermark]
    closes = [close for close in changes.closes if close.recorded_to > watermark]
    if len(fresh) == len(changes.upserts):
        return replace(changes, closes=closes)
    return Changes([changes.upserts[place] for place in fresh], changes.vectors[fresh], closes)


def slices(changes: Changes, size: int) -> Iterator[Changes]:
    """The changes in parts of `size`, every upsert before every close."""
    nothing: tuple[list[Point], list[Close]] = ([], [])
    for start in range(0, len(changes.upserts), size):
        part = slice(start, start + size)
        yield Changes(changes.upserts[part], changes.vectors[part], nothing[1])
    for start in range(0, len(changes.closes), size):
        yield Changes(nothing[0], changes.vectors[:0], changes.closes[start : start + size])


def _check_upsert(point: Point, stretch: Stretch) -> None:
    if not point.point_id or not point.item_id:
        raise InvalidRequest("an upsert without point_id or item_id")
    if not _proper(point.extent.valid) or not _proper(point.extent.recorded):
        raise InvalidRequest(f"point {point.point_id!r} has an extent that is empty or outside the years 1 to 9999")
    _check_inside(point.extent.recorded.start, stretch, point.point_id)


def _check_inside(recorded: int, stretch: Stretch, point_id: str) -> None:
    if not stretch.start < recorded <= stretch.end:
        raise InvalidRequest(
            f"point {point_id!r}: a change recorded at {recorded} in the stretch ({stretch.start}, {stretch.end}]"
        )


def _proper(span: Span) -> bool:
    return OPEN_START <= span.start < span.end <= OPEN_END
