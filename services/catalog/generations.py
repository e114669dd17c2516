"""The life of an index generation; which one is live is said here and nowhere else.

building ──ready──▶ ready ──switch──▶ live ──switch, rollback──▶ kept ──rollback──▶ live
building, ready, kept ──drop──▶ dropping ──gone──▶ dropped, whose name is not given again
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from services.catalog import jobs
from services.catalog.following import points_within
from services.catalog.records import Generation
from services.catalog.state import DROPPED, LIVE, forget_reader, generation_of, index_reader, lagging, watermark
from services.catalog.tables import generations
from services.catalog.tables import jobs as job_rows
from services.common.errors import Conflict, NotFound
from services.common.moment import OPEN_END, now
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Vectors
from services.common.nodes.scope import Stretch

BUILDING, READY, KEPT, DROPPING = "building", "ready", "kept", "dropping"
GONE = (DROPPING, DROPPED)
REINDEX, VERIFY = "reindex", "verify"
"""The kinds of jobs that build a generation and compare it with the live one."""

MOST_BESIDE = 3
"""Generations beside the live one: each takes the room of a whole index and is followed by every commit."""
MOST_BEHIND = 1_000
"""Points that a generation may lack when it goes live: what a few seconds of ingestion add."""
FOLLOW_US = 30_000_000
"""How long a worker that follows a generation is waited for: several times what a step of its work takes."""
VERDICT_US = 24 * 3_600_000_000
"""How long a verdict counts."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A generation as the catalog has it. `behind`: points on record that its index has not applied."""

    generation: Generation
    state: str
    verdict: Mapping[str, Any] | None
    created_at: int
    switched_at: int | None
    behind: int


def start(tx: Connection, encoder: str, dimensions: int, funnel: Funnel) -> Generation:
    """A new generation that is to be built, with the next free name. Raises Conflict where there are enough."""
    rows = _locked(tx)
    beside = [row for row in rows if row.state not in (LIVE, *GONE)]
    building = next((row.generation for row in beside if row.state == BUILDING), None)
    if building is not None:
        raise Conflict(f"generation {building!r} is being built; wait until it is ready, or drop it")
    if len(beside) >= MOST_BESIDE:
        names = ", ".join(row.generation for row in beside)
        raise Conflict(f"there are {len(beside)} generations beside the live one ({names}); drop one first")
    made = Generation(f"g{1 + max((_number(row) for row in rows), default=0)}", encoder, dimensions, funnel)
    tx.execute(
        insert(generations).values(
            generation=made.name,
            encoder=encoder,
            dimensions=dimensions,
            funnel=funnel.to_json(),
            schema_version=made.schema_version,
            state=BUILDING,
            created_at=now(),
        )
    )
    return made


def ask_reindex(tx: Connection, tenant: str, generation: Generation) -> jobs.Job:
    """The job that builds it."""
    request = {"generation": generation.name, "files": []}
    return jobs.create(tx, tenant, "*", REINDEX, request, priority=jobs.LONG)


def ask_verify(tx: Connection, tenant: str, name: str) -> jobs.Job:
    """The job that compares it with the live one; one under way already is that one. Raises NotFound, Conflict."""
    row = _row(tx, name)
    if row.state not in (READY, KEPT):
        raise Conflict(f"generation {name!r} is {row.state}; only one that is ready or kept can be verified")
    begun = _unfinished(tx, VERIFY, name)
    return begun[0] if begun else jobs.create(tx, tenant, "*", VERIFY, {"generation": name, "files": []})


def standings(tx: Connection) -> list[Standing]:
    """Every generation that is not gone, the oldest first."""
    query = select(generations).where(generations.c.state.not_in(GONE)).order_by(generations.c.created_at)
    return [_standing(tx, row) for row in tx.execute(query).all()]


def standing(tx: Connection, name: str) -> Standing:
    """Raises NotFound."""
    return _standing(tx, _row(tx, name))


def followed(tx: Connection) -> list[Generation]:
    """Those beside the live one that every commit goes to as well; one that is being built is followed by its job."""
    query = select(generations).where(generations.c.state.in_((READY, KEPT))).order_by(generations.c.created_at)
    return [generation_of(row) for row in tx.execute(query)]


def follow(tx: Connection, name: str, held: int = 0) -> int:
    """Take the lease of following a generation, or renew the one held, which its end names.

    Returns the new end; 0 where another worker has it. The lease spares work: what two do at once is done once.
    """
    clock, until = now(), generations.c.followed_until
    mine = until == held if held else until.is_(None) | (until < clock)
    taken = max(clock + FOLLOW_US, held + 1)
    changed = update(generations).where(generations.c.generation == name, mine).values(followed_until=taken)
    return taken if tx.execute(changed).rowcount else 0


def unfollow(tx: Connection, name: str, held: int) -> None:
    """Give the lease back."""
    mine = (generations.c.generation == name) & (generations.c.followed_until == held)
    tx.execute(update(generations).where(mine).values(followed_until=None))


def set_basis(tx: Connection, name: str, basis: Vectors) -> None:
    """Store what rotates its vectors, once and for all. basis: float32, shape (funnel.dimensions, dimensions)."""
    mine = (generations.c.generation == name) & generations.c.basis.is_(None)
    tx.execute(update(generations).where(mine).values(basis=basis.astype("<f4").tobytes()))


def mark_ready(tx: Connection, name: str) -> None:
    """Its build is done. Raises Conflict for one that is not being built any more, but is ready already."""
    changed = _to(tx, name, (BUILDING, READY), state=READY)
    if not changed:
        raise Conflict(f"generation {name!r} is not being built any more")


def record_verdict(tx: Connection, name: str, verdict: Mapping[str, Any]) -> None:
    _to(tx, name, (READY, KEPT, LIVE), verdict=dict(verdict))


def switch(tx: Connection, name: str, forced: bool = False) -> tuple[str, str]:
    """Make it live and keep the one that was, in one step; returns (live, kept).

    Unless forced, raises Conflict without a recent verdict that it passed, or where it is behind. Raises NotFound.
    """
    live = next(row.generation for row in _locked(tx) if row.state == LIVE)
    found = standing(tx, name)
    if found.state not in (READY, KEPT):
        raise Conflict(f"generation {name!r} is {found.state}; only one that is ready or kept can go live")
    reason = None if forced else _objection(found, live)
    if reason is not None:
        raise Conflict(f"{reason}, or force the switch by its name ({name})")
    return _go_live(tx, name, live)


def rollback(tx: Connection) -> tuple[str, str]:
    """Make the generation live again that was so before; returns (live, kept). Raises Conflict where none is kept."""
    rows = _locked(tx)
    kept = [row for row in rows if row.state == KEPT]
    if not kept:
        raise Conflict("no earlier generation is kept; there is nothing to roll back to")
    last = max(kept, key=lambda row: row.switched_at or 0)
    return _go_live(tx, last.generation, next(row.generation for row in rows if row.state == LIVE))


def drop(tx: Connection, name: str) -> None:
    """Give up a generation and the jobs at work on it; its index goes soon after. Raises NotFound; Conflict if live."""
    rows = {row.generation: row for row in _locked(tx)}
    if name in rows and rows[name].state == LIVE:
        raise Conflict(f"generation {name!r} is live; switch to another one first")
    _row(tx, name)
    for kind in (REINDEX, VERIFY):
        for job in _unfinished(tx, kind, name):
            jobs.cancel(tx, job.tenant, job.job_id)
    _to(tx, name, (BUILDING, READY, KEPT), state=DROPPING)


def dropping(tx: Connection) -> list[str]:
    """Those whose index is to be removed."""
    return list(tx.execute(select(generations.c.generation).where(generations.c.state == DROPPING)).scalars())


def dropped(tx: Connection, name: str) -> None:
    """Its index is gone."""
    forget_reader(tx, index_reader(name))
    _to(tx, name, (DROPPING,), state=DROPPED, basis=None)


def latest_job(tx: Connection, name: str) -> jobs.Job | None:
    """The newest job that builds or verifies it."""
    found = [job for job in _jobs(tx, (REINDEX, VERIFY)) if job.request.get("generation") == name]
    return max(found, key=lambda job: job.created_at, default=None)


def behind(tx: Connection, name: str) -> int:
    """How many points on record its index has not applied, by the catalog's copy of its watermarks."""
    reader = index_reader(name)
    missing = 0
    for _, tenant, collection in lagging(tx, [reader]):
        mark = watermark(tx, reader, tenant, collection)
        missing += points_within(tx, Stretch(tenant, collection, mark, OPEN_END))
    return missing


def _objection(found: Standing, live: str) -> str | None:
    """Why it may not go live, or None."""
    verdict, name = found.verdict, found.generation.name
    verify = f"verify it (almanac reindex verify {name})"
    if verdict is None:
        return f"generation {name!r} has not been verified; {verify}"
    if not verdict["passed"]:
        return f"generation {name!r} failed its verification ({'; '.join(verdict['reasons'])}); mend that and {verify}"
    if verdict["against"] != live or now() - verdict["checked_us"] > VERDICT_US:
        return f"generation {name!r} was verified a while ago or against another one; {verify} again"
    if found.behind > MOST_BEHIND:
        return f"generation {name!r} is {found.behind} points behind the record; wait until it has caught up"
    return None


def _go_live(tx: Connection, name: str, live: str) -> tuple[str, str]:
    tx.execute(update(generations).where(generations.c.generation == live).values(state=KEPT))
    tx.execute(update(generations).where(generations.c.generation == name).values(state=LIVE, switched_at=now()))
    return name, live


def _locked(tx: Connection) -> list[Row[Any]]:
    """Every row, held against whoever else would change one."""
    return list(tx.execute(select(generations).order_by(generations.c.created_at).with_for_update()))


def _row(tx: Connection, name: str) -> Row[Any]:
    query = select(generations).where(generations.c.generation == name, generations.c.state.not_in(GONE))
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no generation {name[:64]!r}; see `almanac reindex status`")
    return row


def _standing(tx: Connection, row: Row[Any]) -> Standing:
    counted = behind(tx, row.generation)
    return Standing(generation_of(row), row.state, row.verdict, row.created_at, row.switched_at, counted)


def _to(tx: Connection, name: str, states: tuple[str, ...], **values: Any) -> bool:
    mine = (generations.c.generation == name) & generations.c.state.in_(states)
    return bool(tx.execute(update(generations).where(mine).values(**values)).rowcount)


def _unfinished(tx: Connection, kind: str, name: str) -> list[jobs.Job]:
    found = [job for job in _jobs(tx, (kind,)) if job.request.get("generation") == name]
    return [job for job in found if job.state not in jobs.FINISHED]


def _jobs(tx: Connection, kinds: tuple[str, ...]) -> list[jobs.Job]:
    ids = tx.execute(select(job_rows.c.job_id).where(job_rows.c.kind.in_(kinds))).scalars()
    return [jobs.by_id(tx, job_id) for job_id in ids.all()]


def _number(row: Row[Any]) -> int:
    digits = str(row.generation).removeprefix("g")
    return int(digits) if digits.isascii() and digits.isdigit() else 0
