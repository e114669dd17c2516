"""The profile step: what whoever asks is served with, as on record when the question is asked."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from functools import partial
from typing import Any

from services.catalog.profiles import Profile, newest
from services.common.moment import OPEN_START, Moment
from services.common.nodes.features import PROFILES, TENANTS, USERS
from services.common.nodes.scope import Scope
from services.orchestrator.graph.nodes import Nodes

_NAMES = tuple(field.name for field in fields(Profile))


async def find_profile(nodes: Nodes, tenant: str, user: str, known_at: int) -> Profile:
    """The user's profile over the tenant's, from the features node; all empty where none was set.

    A profile says how to serve, not what is true, so it holds from its record time on and `as_of` has no say in it.
    `known_at` is pinned to the newest profile at or before it: all that is older is complete, so that a replay sees the
    same. Raises BehindWatermark and Unavailable, as features.read does.
    """
    at = await nodes.catalog.reading(partial(newest, tenant=tenant, known_at=known_at))
    if at == OPEN_START:
        return Profile()
    scope = Scope(tenant, PROFILES, PROFILES, Moment(at, at))
    asked = [(TENANTS, tenant), *([(USERS, user)] if user else [])]
    found = await asyncio.gather(*(nodes.features.read(scope, view, [entity]) for view, entity in asked))
    tenants, *users = (_profile(row.values) for (row,) in found)
    return users[0].over(tenants) if users else tenants


def _profile(values: Any) -> Profile:
    return Profile(**{name: values[name] for name in _NAMES if name in values})
