"""Profiles of tenants and users: which plan they are on and what they are served with.

Append only, whole each time; what holds is what was recorded last. A tenant's profiles have a record of their own,
beside those of its collections, and reach the feature views `tenants` and `users` as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from services.catalog.state import view_reader, watermark
from services.catalog.tables import profiles
from services.common.batches import batched
from services.common.moment import OPEN_START, now
from services.common.nodes.features import PROFILES, TENANTS, USERS, FeatureRow
from services.common.nodes.scope import Stretch

PROFILE_VIEWS = (TENANTS, USERS)
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Profile:
    """What is empty or 0 is not set; a user's profile then gives way to the tenant's. Quotas are counts a day."""

    plan: str = ""
    locale: str = ""
    adapter: str = ""
    questions_per_day: int = 0
    tokens_per_day: int = 0

    def over(self, other: Profile) -> Profile:
        """What is set here, and for the rest what the other says."""
        return Profile(*(mine or theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def set_profile(tx: Connection, tenant: str, user: str, profile: Profile) -> int:
    """Record the profile of a user, or of the tenant itself where `user` is empty; returns the record time."""
    _hold(tx, tenant)
    recorded = max(now(), newest(tx, tenant) + 1)
    row = {"tenant": tenant, "user": user, "recorded_at": recorded, "profile": asdict(profile)}
    tx.execute(insert(profiles).values(row))
    return recorded


def newest(tx: Connection, tenant: str, known_at: int | None = None) -> int:
    """The record time of the tenant's newest profile, or of the newest at or before `known_at`; OPEN_START if none."""
    query = select(func.max(profiles.c.recorded_at)).where(profiles.c.tenant == tenant)
    if known_at is not None:
        query = query.where(profiles.c.recorded_at <= known_at)
    found = tx.execute(query).scalar()
    return OPEN_START if found is None else int(found)


def held(tx: Connection, tenant: str, user: str) -> Profile:
    """What was recorded last for the user alone, or for the tenant where `user` is empty."""
    mine = (profiles.c.tenant == tenant, profiles.c.user == user)
    found = tx.execute(
        select(profiles.c.profile).where(*mine).order_by(profiles.c.recorded_at.desc()).limit(1)
    ).scalar()
    return Profile(**found) if found else Profile()


def profile_changes(tx: Connection, view: str, stretch: Stretch) -> Iterator[list[FeatureRow]]:
    """What a view of profiles has to append, in batches."""
    at = profiles.c.recorded_at
    whose = profiles.c.user == "" if view == TENANTS else profiles.c.user != ""
    query = (
        select(profiles)
        .where(profiles.c.tenant == stretch.tenant, whose, at > stretch.start, at <= stretch.end)
        .order_by(at)
    )
    for rows in batched(tx.execute(query), _BATCH):
        yield [
            FeatureRow(row.user or row.tenant, True, row.recorded_at, row.recorded_at, _values(row.profile))
            for row in rows
        ]


def profiled_tenants(tx: Connection) -> list[tuple[str, int]]:
    """Every tenant that has profiles, with its newest record time."""
    query = select(profiles.c.tenant, func.max(profiles.c.recorded_at)).group_by(profiles.c.tenant)
    return [(tenant, int(recorded)) for tenant, recorded in tx.execute(query)]


def lagging_profiles(tx: Connection) -> list[tuple[str, int]]:
    """Those whose views of profiles are behind, as the catalog last noted them."""
    return [
        (tenant, recorded)
        for tenant, recorded in profiled_tenants(tx)
        if any(watermark(tx, view_reader(view), tenant, PROFILES) < recorded for view in PROFILE_VIEWS)
    ]


def _values(profile: dict[str, Any]) -> dict[str, Any]:
    return asdict(Profile(**profile))


def _hold(tx: Connection, tenant: str) -> None:
    """One writer of a tenant's profiles at a time, so that record times are committed in their order."""
    if tx.dialect.name == "postgresql":
        tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"profiles:{tenant}", 0))))
