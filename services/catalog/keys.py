"""Keys: `alm_<key_id>_<secret>`. The catalog keeps the public part and a digest of the secret one.

A secret is 256 random bits, so a plain SHA-256 keeps it: what slow, salted hashes guard against is guessing words that
people choose, and nobody chose these.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, union, update

from services.catalog.tables import collections, keys
from services.common.errors import Conflict, KeyNotFound
from services.common.moment import now

PREFIX = "alm"
LOCAL = "local"
"""How the id begins of a key that `almanac up` makes for the command line of its home."""

_SECRET_BYTES = 32
_SHAPE = re.compile(rf"{PREFIX}_([0-9a-z]{{1,16}})_([A-Za-z0-9_-]{{1,64}})")
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times in microseconds since the epoch; `user` is empty for the tenant's own."""

    key_id: str
    digest: str
    tenant: str
    user: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    used_at: int | None = None

    def valid(self, at: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def split(text: str) -> tuple[str, str] | None:
    """The public and the secret part of what may be a key; None for what cannot be one."""
    found = _SHAPE.fullmatch(text)
    return None if found is None else (found[1], found[2])


def create(
    tx: Connection,
    tenant: str,
    scopes: Sequence[str],
    *,
    user: str = "",
    name: str = "",
    expires_at: int | None = None,
    local: bool = False,
) -> tuple[Key, str]:
    """A new key, and its whole text, which is not kept."""
    key_id = LOCAL + secrets.token_hex(4) if local else secrets.token_hex(6)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    made = Key(key_id, digest(secret), tenant, user, name, tuple(sorted(set(scopes))), now(), expires_at)
    values = {column.name: getattr(made, column.name) for column in keys.columns}
    tx.execute(insert(keys).values(**{**values, "scopes": list(made.scopes)}))
    return made, f"{PREFIX}_{key_id}_{secret}"


def find(tx: Connection, key_id: str) -> Key | None:
    row = tx.execute(select(keys).where(keys.c.key_id == key_id)).one_or_none()
    return None if row is None else _key(row)


def listing(tx: Connection, tenant: str | None) -> list[Key]:
    """The tenant's keys, or everybody's, the oldest first."""
    query = select(keys).order_by(keys.c.created_at, keys.c.key_id)
    return [_key(row) for row in tx.execute(query if tenant is None else query.where(keys.c.tenant == tenant))]


def get(tx: Connection, tenant: str | None, key_id: str) -> Key:
    """Raises KeyNotFound, also for a key of another tenant than the one given."""
    found = find(tx, key_id)
    if found is None or tenant not in (None, found.tenant):
        raise KeyNotFound(f"there is no key {key_id[:32]!r}; `almanac keys list` shows those there are")
    return found


def revoke(tx: Connection, tenant: str | None, key_id: str) -> Key:
    """From now on the key is not valid. Raises KeyNotFound."""
    found = get(tx, tenant, key_id)
    if found.revoked_at is None:
        tx.execute(update(keys).where(keys.c.key_id == key_id).values(revoked_at=now()))
    return get(tx, tenant, key_id)


def rotate(tx: Connection, tenant: str | None, key_id: str, grace_us: int) -> tuple[Key, str]:
    """A new key in the place of one that stays valid for a while. Raises KeyNotFound; Conflict for an invalid one."""
    old, clock = get(tx, tenant, key_id), now()
    if not old.valid(clock):
        raise Conflict(f"key {key_id} is not valid any more; create a new one")
    until = clock + grace_us
    ends = until if old.expires_at is None else min(until, old.expires_at)
    tx.execute(update(keys).where(keys.c.key_id == key_id).values(expires_at=ends))
    return create(
        tx,
        old.tenant,
        old.scopes,
        user=old.user,
        name=old.name,
        expires_at=old.expires_at,
        local=old.key_id.startswith(LOCAL),
    )


def used(tx: Connection, key_id: str, at: int) -> None:
    """Note a use, to the minute; the first one of each minute writes."""
    minute = at - at % _MINUTE_US
    earlier = or_(keys.c.used_at.is_(None), keys.c.used_at < minute)
    tx.execute(update(keys).where(keys.c.key_id == key_id, earlier).values(used_at=minute))


def any_made(tx: Connection) -> bool:
    """Whether anybody ever made a key, valid or not; those that `almanac up` makes do not count."""
    query = select(keys.c.key_id).where(keys.c.key_id.not_like(f"{LOCAL}%")).limit(1)
    return tx.execute(query).one_or_none() is not None


def tenants(tx: Connection) -> list[str]:
    """Every tenant that has a key or a collection."""
    return [str(name) for name in tx.execute(union(select(keys.c.tenant), select(collections.c.tenant))).scalars()]


def _key(row: Row[Any]) -> Key:
    return Key(**{**row._mapping, "scopes": tuple(row.scopes)})
