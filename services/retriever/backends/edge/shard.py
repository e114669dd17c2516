"""The shards of one generation: opened, created, copied, and cleared away when another has taken their place."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Generator, Sequence
from pathlib import Path

import qdrant_edge as qe

from services.common.errors import Unavailable
from services.common.nodes.funnel import Funnel
from services.retriever.backends.edge.schema import config, index_payload

_STEP = 256
"""Points copied in one step: a search waits no longer than that takes."""


def fresh_name() -> str:
    return f"shard-{uuid.uuid4().hex[:12]}"


def remove_leftovers(directory: Path, current: str) -> None:
    """Remove every shard but the current one: what a rewrite left when it was killed, or has replaced."""
    for path in directory.glob("shard*"):
        if path.name != current:
            shutil.rmtree(path, ignore_errors=True)


def copy_points(source: qe.EdgeShard, target: qe.EdgeShard) -> Generator[bool]:
    """Copy every point with its vectors and payload, some in each step."""
    offset = None
    while True:
        request = qe.ScrollRequest(offset=offset, limit=_STEP, with_payload=True, with_vector=True)
        records, offset = source.scroll(request)
        if records:
            target.update(qe.UpdateOperation.upsert_points(_as_points(records)))
        if offset is None:
            return
        yield True


def load_shard(path: Path) -> qe.EdgeShard | None:
    if not path.exists():
        return None
    try:
        return qe.EdgeShard.load(str(path))
    except Exception as error:
        raise Unavailable(f"the index at {path} does not open; does another process own it? ({error})") from error


def replay(source: qe.EdgeShard, target: qe.EdgeShard, points: Sequence[qe.PointId]) -> None:
    """Make these points in the target what they are in the source."""
    records = source.retrieve(list(points), with_payload=True, with_vector=True)
    held = {str(record.id) for record in records}
    gone = [point for point in points if str(point) not in held]
    if gone:
        target.update(qe.UpdateOperation.delete_points(gone))
    if records:
        target.update(qe.UpdateOperation.upsert_points(_as_points(records)))


def _as_points(records: Sequence[qe.Record]) -> list[qe.Point]:
    return [qe.Point(record.id, record.vector or {}, record.payload) for record in records]


def create_shard(path: Path, funnel: Funnel, dimensions: int) -> qe.EdgeShard:
    """Create aside and rename, so that a crash leaves no half-made shard. Without dimensions it is sparse only."""
    made = config(funnel, dimensions)
    aside = path.with_suffix(".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    shard = qe.EdgeShard.create(str(aside), made)
    index_payload(shard)
    shard.flush()
    shard.close()
    aside.rename(path)
    return qe.EdgeShard.load(str(path))
