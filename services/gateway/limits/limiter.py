"""The limits of one gateway's callers. Without any, Redis is not asked."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.errors import Overloaded, RateLimited, Unavailable
from services.gateway.limits.leases import Leases, Line, Refused
from services.gateway.limits.meters import PREFIX, Bucket, Day, Meter, Standing, meter
from services.gateway.limits.policies import Policy, holder_of, policies, seconds_to_midnight
from services.gateway.outage import FAILURES, Outages, Result
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.queues import answer_queue, answer_queues

log = structlog.get_logger()

_SECONDS = 1.0
_CHARGED_SECONDS = 3_600
"""How long it is known that an answer was charged for: its stream is not kept so long."""


class Limiter:
    """Requests are counted as they come, tokens once they are used. Opening it connects to nothing."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        once_more = Retry(NoBackoff(), 1, (RedisConnectionError,))
        self._redis: Redis = Redis.from_url(
            settings.broker_url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS, retry=once_more
        )
        self._requests, self._tokens = policies(settings, "requests"), policies(settings, "tokens")
        self._meter: Meter = meter(settings.limit_strategy, self._redis)
        self._bucket = Bucket(self._redis)
        self._day = Day(self._redis)
        self._streams = Leases(self._redis, "streams", settings.limit_streams)
        self._answers = Leases(
            self._redis,
            "answers",
            settings.answers_of_tenant,
            settings.answers_in_flight,
            Line(
                answer_queues(settings.answer_queues),
                settings.answers_waiting,
                partial(answer_queue, count=settings.answer_queues),
            ),
            settings.answers_within_seconds,
        )
        self._ended = 0
        self._open = settings.limits_without_redis == "open"
        self._outages = Outages(self._lost, lambda: log.warning("limits_back"), clock)

    async def admit(self, tenant: str, key_id: str) -> dict[str, str]:
        """Count a request; the fields of its response. Raises RateLimited, or Unavailable if it cannot be counted."""
        return await self._counted(self._requests, tenant, key_id)

    async def _counted(self, policies: Sequence[Policy], tenant: str, key_id: str) -> dict[str, str]:
        standings = []
        for policy in policies:
            counting = self._day if policy.daily else self._meter
            found = await self._asked(lambda: counting.take(policy.quota, policy.who(tenant, key_id)))  # noqa: B023
            if found is None:
                return {}
            standings.append((policy, found))
            if not found.allowed:
                raise _refusal(policy, found, _fields(standings))
        return _fields(standings)

    async def ask(self, tenant: str, key_id: str, quotas: Sequence[Policy]) -> dict[str, str]:
        """Count a question against daily quotas; the fields of its response. Raises as `admit` does."""
        return await self._counted(quotas, tenant, key_id)

    async def require_tokens(self, tenant: str, key_id: str, quotas: Sequence[Policy] = ()) -> None:
        """Raises RateLimited where none are left: many answers at once may use more than that, which is paid later.

        quotas: beside those of the settings.
        """
        for policy in (*self._tokens, *quotas):
            looking = self._day if policy.daily else self._bucket
            found = await self._asked(lambda: looking.look(policy.quota, policy.who(tenant, key_id)))  # noqa: B023
            if found is not None and not found.allowed:
                raise _refusal(policy, found, _fields([(policy, found)]))

    async def charge(
        self, tenant: str, key_id: str, tokens: int, answer_id: str = "", quotas: Sequence[Policy] = ()
    ) -> None:
        """Count tokens that an answer used; those of an answer with an id once. quotas: beside the settings' own."""
        charged = (*self._tokens, *quotas)
        if not charged or tokens <= 0 or (answer_id and not await self._first(answer_id)):
            return
        for policy in charged:
            who = policy.who(tenant, key_id)
            spend = self._day.take if policy.daily else self._bucket.spend
            with suppress(Unavailable):
                await self._asked(lambda: spend(policy.quota, who, tokens))  # noqa: B023

    async def _first(self, answer_id: str) -> bool:
        """Whether the answer was not charged for in the last hour, and is now."""
        key = f"{PREFIX}:charged:{answer_id}"
        with suppress(Unavailable):
            return bool(await self._asked(lambda: self._redis.set(key, 1, nx=True, ex=_CHARGED_SECONDS)))
        return False

    @asynccontextmanager
    async def stream(self, tenant: str, key_id: str) -> AsyncIterator[None]:
        """One of the streams that a key may have at once. Raises RateLimited."""
        if not self._streams.most:
            yield
            return
        try:
            async with self._held(self._streams, holder_of(tenant, key_id)):
                yield
        except Refused:
            most = self._streams.most
            raise RateLimited(
                f"the key has {most} streams open, as many as it may; end one", {"Retry-After": "1"}
            ) from None

    @asynccontextmanager
    async def answer(self, tenant: str) -> AsyncIterator[None]:
        """A place among the answers in flight. Raises Overloaded while there is none, RateLimited for the tenant's."""
        try:
            async with self._held(self._answers, tenant):
                yield
        except Refused as refused:
            if refused.full:
                raise Overloaded("more is asked than can be answered in time; ask again shortly") from None
            most = self._answers.most
            raise RateLimited(
                f"{most} questions of the tenant are being answered, as many as it may have at once"
            ) from None

    def answered(self) -> None:
        """An answer was given, afresh and to its end. Told with the next place that is free again, so at no cost."""
        self._ended += 1

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def _held(self, leases: Leases, holder: str) -> AsyncIterator[None]:
        """Hold a lease, renewed meanwhile; without Redis what holds it goes uncounted. Raises Refused."""
        lease = await self._asked(lambda: leases.acquire(holder))
        if lease is None:
            yield
            return
        renewing = asyncio.ensure_future(_renew(leases, holder, lease))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(*FAILURES):
                await leases.release(holder, lease, self._untold() if leases is self._answers else 0)

    def _untold(self) -> int:
        """How many answers have ended since this was last asked."""
        ended, self._ended = self._ended, 0
        return ended

    async def _asked(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """What Redis says; None if it is down and that lets everything through. Raises Unavailable otherwise."""
        answered, found = await self._outages.ask(work)
        if answered or self._open:
            return found
        raise Unavailable("requests cannot be counted, for the broker does not answer; its log says why")

    def _lost(self, reason: str) -> None:
        then = "everything is let through" if self._open else "everything is refused"
        log.error("limits_lost", then=then, reason=reason)


async def _renew(leases: Leases, holder: str, lease: str) -> None:
    while True:
        await asyncio.sleep(leases.seconds / 3)
        with suppress(*FAILURES):
            await leases.acquire(holder, lease)


def _wait(policy: Policy, standing: Standing) -> int:
    return max(1, math.ceil(seconds_to_midnight() if policy.daily else standing.reset))


def _refusal(policy: Policy, standing: Standing, fields: dict[str, str]) -> RateLimited:
    what = policy.name.replace("-", " ")
    wait = _wait(policy, standing)
    return RateLimited(
        f"{what}: {policy.quota} are all used; try again in {wait} s", {**fields, "Retry-After": str(wait)}
    )


def _fields(standings: list[tuple[Policy, Standing]]) -> dict[str, Any]:
    """`RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 spells them."""
    if not standings:
        return {}
    left = (f'"{policy.name}";r={standing.remaining};t={_wait(policy, standing)}' for policy, standing in standings)
    return {"RateLimit-Policy": ", ".join(policy.stated() for policy, _ in standings), "RateLimit": ", ".join(left)}
