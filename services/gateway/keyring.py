"""Keys as requests bring them: looked up by their public part, compared in constant time, remembered for seconds."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.catalog import keys
from services.catalog.engine import Database
from services.common.errors import Unauthorized
from services.common.moment import now

log = structlog.get_logger()

LIFE_SECONDS = 2.0
"""How long a key is remembered: a revocation takes effect on every gateway within this time."""

CHALLENGE = 'Bearer realm="almanac"'
_INVALID = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
_MOST = 10_000
_MINUTE_US = 60_000_000
_NOBODY = keys.digest("")
"""What the secret of a key that is not there is compared with, so that it takes as long as any other."""


class Keyring:
    """The catalog's keys, as one gateway knows them."""

    def __init__(self, catalog: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog, self._clock = catalog, clock
        self._known: dict[str, tuple[float, keys.Key | None]] = {}
        self._made, self._made_at = False, float("-inf")
        self._noted: dict[str, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def verify(self, text: str) -> keys.Key:
        """The key of that text. Raises Unauthorized.

        What differs in time is whether the public part is remembered; the secret part is only ever hashed whole.
        """
        key_id, secret = keys.split(text) or ("", text)
        found = await self._find(key_id)
        matches = hmac.compare_digest(keys.digest(secret), _NOBODY if found is None else found.digest)
        if found is None or not matches:
            raise Unauthorized("there is no such key; `almanac keys create` makes one", _INVALID)
        clock = now()
        if not found.valid(clock):
            ended = "expired" if found.revoked_at is None else "was revoked"
            raise Unauthorized(f"key {key_id} {ended}; use another", _INVALID)
        self._note(key_id, clock - clock % _MINUTE_US)
        return found

    async def user_of(self, key_id: str) -> str:
        """Whose profile the key's questions use; empty for the tenant's own, and without a key."""
        found = await self._find(key_id) if key_id else None
        return "" if found is None else found.user

    async def any_made(self) -> bool:
        """Whether anybody ever made a key, and requests therefore need one."""
        if not self._made and self._clock() - self._made_at > LIFE_SECONDS:
            self._made, self._made_at = await self._catalog.reading(keys.any_made), self._clock()
        return self._made

    def forget(self) -> None:
        """Look everything up again: a key was just made or revoked here."""
        self._known.clear()
        self._made_at = float("-inf")

    async def close(self) -> None:
        await asyncio.gather(*self._noting, return_exceptions=True)

    async def _find(self, key_id: str) -> keys.Key | None:
        until, found = self._known.get(key_id, (0.0, None))
        if until > self._clock():
            return found
        found = await self._catalog.reading(lambda tx: keys.find(tx, key_id))
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key_id] = self._clock() + LIFE_SECONDS, found
        return found

    def _note(self, key_id: str, minute: int) -> None:
        """Note the first use of each minute, without a request waiting for it."""
        if self._noted.get(key_id) != minute:
            self._noted[key_id] = minute
            task = asyncio.ensure_future(self._write(key_id, minute))
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def _write(self, key_id: str, minute: int) -> None:
        try:
            await self._catalog.writing(lambda tx: keys.used(tx, key_id, minute))
        except SQLAlchemyError as error:
            log.warning("key_use_not_noted", key_id=key_id, reason=str(error))
