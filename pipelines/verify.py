"""Verify: whether a generation may take the live one's place, and why not.

Both must hold exactly the points that the catalog has, and both are asked the same queries at several moments: how many
of the ten best each finds of those its own exhaustive search finds (recall@10), and how many of their ten best are the
same (overlap@10).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection

from pipelines.follow import Follower
from services.catalog import generations, jobs
from services.catalog.engine import Database
from services.catalog.probing import Collection, contents, largest, moments, queries
from services.catalog.records import Generation
from services.catalog.state import known_collections
from services.common.moment import format_instant, now
from services.common.nodes.encoder import Encoder, TextKind, Vectors
from services.common.nodes.retriever import Hit, Query, Retriever, Target
from services.common.nodes.scope import Scope

LEAST_RECALL = 0.95
"""Of its own exhaustive search. Below it, some answers would miss the passage that they need."""
LEAST_OVERLAP = 0.8
"""With the live generation, where both have the same encoder: nearly the same passages are to be found."""
LEAST_OVERLAP_OTHERWISE = 0.1
"""Where the encoder changes so does the order; that hardly anything is the same is still a sign of a mistake."""
TOP = 10
MOST_COLLECTIONS = 20
MOST_QUERIES = 100
"""Of each kind, over all collections: a share of 0.95 is then known to about 0.02 (one standard error)."""
TRIES, AGAIN_SECONDS = 10, 1.0
"""How often, and how far apart, a collection that is written to is looked at before that fails it."""
_TIE = 1e-5
"""Cosines closer than that are the same: which of two such passages comes first says nothing."""


@dataclass(slots=True)
class _Tally:
    """What was compared so far."""

    reasons: list[str] = field(default_factory=list)
    points: int = 0
    collections: int = 0
    asked: int = 0
    overlap: list[float] = field(default_factory=list)
    recall: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verifier:
    """`share`: the part of the time that the indexes may be asked, for an exhaustive search keeps others waiting."""

    catalog: Database
    encoder: Encoder
    retriever: Retriever
    follower: Follower
    share: float = 1.0

    async def run(self, job: jobs.Job, live: Generation) -> None:
        """Compare the generation that the job names with the live one, and record the verdict."""
        name = str(job.request["generation"])
        found = (await self.catalog.reading(lambda tx: generations.standing(tx, name))).generation
        known = await self.catalog.reading(known_collections)
        probed = await self.catalog.reading(lambda tx: largest(tx, known, MOST_COLLECTIONS))
        tally, total = _Tally(), len(known) + len(probed)
        for done, (tenant, collection, _) in enumerate(known):
            await self._note(job, done, total)
            await self._compare(tenant, collection, (live, found), tally)
        for done, where in enumerate(probed, start=len(known)):
            await self._note(job, done, total)
            await self._probe(where, (live, found), MOST_QUERIES // len(probed), tally)
        verdict = _verdict(tally, live, found)

        def write(tx: Connection) -> None:
            jobs.progress(tx, job.job_id, total, {"asked": tally.asked}, (), job.attempts)
            generations.record_verdict(tx, name, verdict)

        await self.catalog.writing(write)

    async def _compare(self, tenant: str, collection: str, both: Sequence[Generation], tally: _Tally) -> None:
        """Points and fingerprints of a collection; each generation is looked at while it stands still."""
        tally.collections += 1
        for generation in both:
            said = await self._differs(generation, tenant, collection)
            tally.reasons += [f"{generation.name}, collection {collection!r}: {said}"] if said else []
        tally.points += (await self.catalog.reading(lambda tx: contents(tx, tenant, collection))).points

    async def _differs(self, generation: Generation, tenant: str, collection: str) -> str:
        for _ in range(TRIES):
            before = await self.catalog.reading(lambda tx: _recorded(tx, tenant, collection))
            await self.follower.bring(generation, tenant, collection, before)
            held = await self.retriever.contents(generation.name, tenant, collection)
            position = await self.retriever.position(generation.name, tenant, collection)
            wanted = await self.catalog.reading(lambda tx: contents(tx, tenant, collection))
            after = await self.catalog.reading(lambda tx: _recorded(tx, tenant, collection))
            if before == after == position:
                if held == wanted:
                    return ""
                return f"it holds {held.points} points, the catalog {wanted.points}" + (
                    "; their extents differ" if held.points == wanted.points else ""
                )
            await asyncio.sleep(AGAIN_SECONDS)
        return "it is behind, or was written to all the while"

    async def _probe(self, where: Collection, both: Sequence[Generation], most: int, tally: _Tally) -> None:
        texts = await self.catalog.reading(lambda tx: queries(tx, where, most))
        if not texts:
            return
        vectors = {one.encoder: await self.encoder.encode(one.encoder, TextKind.QUERY, texts) for one in both}
        known_at = min([await self.retriever.position(one.name, where.tenant, where.name) for one in both])
        for moment in await self.catalog.reading(lambda tx: moments(tx, where, known_at)):
            for row, text in enumerate(texts):
                began = time.monotonic()
                tops = []
                for one in both:
                    scope = Scope(where.tenant, where.name, one.name, moment)
                    tops.append(await self._ask(scope, text, vectors[one.encoder][row], one.name, tally))
                tally.overlap += _shared(*tops)
                tally.asked += 1
                await asyncio.sleep((time.monotonic() - began) * (1.0 / self.share - 1.0))

    async def _ask(self, scope: Scope, text: str, vector: Vectors, name: str, tally: _Tally) -> list[str]:
        """The ids of the ten best, and on the way how much of the exhaustive dense search the funnel found."""
        hits = (await self.retriever.search(Query(scope, Target.PASSAGES, text, vector, TOP))).hits
        coarse = (await self.retriever.search(Query(scope, Target.PASSAGES, "", vector, TOP))).hits
        exact = (await self.retriever.search(Query(scope, Target.PASSAGES, "", vector, TOP, exact=True))).hits
        tally.recall.setdefault(name, []).extend(_recall(coarse, exact))
        return [hit.item_id for hit in hits]

    async def _note(self, job: jobs.Job, done: int, total: int) -> None:
        def write(tx: Connection) -> None:
            jobs.set_total(tx, job.job_id, total)
            jobs.progress(tx, job.job_id, done, {}, (), job.attempts)

        await self.catalog.writing(write)


def _recorded(tx: Connection, tenant: str, collection: str) -> int:
    return next(recorded for *where, recorded in known_collections(tx) if where == [tenant, collection])


def _recall(coarse: Sequence[Hit], exact: Sequence[Hit]) -> list[float]:
    """The share of the exhaustive search's hits that the funnel found, or found as good ones for; [] for no hits."""
    if not exact:
        return []
    wanted = {hit.item_id for hit in exact}
    last = min(hit.dense for hit in exact if hit.dense is not None)
    found = [hit for hit in coarse if hit.item_id in wanted or (hit.dense is not None and hit.dense >= last - _TIE)]
    return [len(found[: len(exact)]) / len(exact)]


def _shared(one: Sequence[str], other: Sequence[str]) -> list[float]:
    most = max(len(one), len(other))
    return [len(set(one) & set(other)) / most] if most else []


def _verdict(tally: _Tally, live: Generation, found: Generation) -> dict[str, Any]:
    recall = {name: _mean(values) for name, values in tally.recall.items()}
    overlap = _mean(tally.overlap)
    least = LEAST_OVERLAP if live.encoder == found.encoder else LEAST_OVERLAP_OTHERWISE
    reasons = list(tally.reasons)
    own = recall.get(found.name)
    if own is not None and own < LEAST_RECALL:
        reasons.append(f"recall@10 is {own:.3f} of its own exhaustive search; at least {LEAST_RECALL} is needed")
    if overlap is not None and overlap < least:
        reasons.append(f"overlap@10 with {live.name} is {overlap:.3f}; at least {least} is needed")
    clock = now()
    return {
        "passed": not reasons,
        "reasons": reasons,
        "against": live.name,
        "checked_at": format_instant(clock),
        "checked_us": clock,
        "collections": tally.collections,
        "points": tally.points,
        "asked": tally.asked,
        "overlap@10": overlap,
        "recall@10": recall,
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
