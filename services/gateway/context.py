"""What every request works with: opened when the gateway starts, closed in reverse when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from services.catalog.engine import Database
from services.gateway.ahead import Ahead
from services.gateway.broker import Broker
from services.gateway.caching import CachedAnswering, Lives
from services.gateway.dispatch import Answering, Dispatcher
from services.gateway.entries import RedisEntries
from services.gateway.keyring import Keyring
from services.gateway.limits.limiter import Limiter
from services.gateway.limits.quotas import Quotas
from services.gateway.lingering import Lingering
from services.gateway.metrics import Metrics
from services.gateway.searches import Searches
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.nodes import Nodes, connect


@dataclass(frozen=True, slots=True)
class Context:
    """The gateway's resources. `answering` turns a pinned question into its events."""

    settings: GatewaySettings
    catalog: Database
    nodes: Nodes
    broker: Broker
    answering: Answering
    metrics: Metrics
    keyring: Keyring = field(init=False)
    limiter: Limiter = field(init=False)
    searches: Searches = field(init=False)
    quotas: Quotas = field(init=False)
    lingering: Lingering = field(init=False)
    ahead: Ahead = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyring", Keyring(self.catalog))
        object.__setattr__(self, "limiter", Limiter(self.settings))
        object.__setattr__(self, "searches", Searches(self.catalog))
        object.__setattr__(self, "quotas", Quotas(self.catalog))
        object.__setattr__(self, "lingering", Lingering())
        object.__setattr__(self, "ahead", Ahead(self.nodes, wanted=not self.settings.cache_answers))

    async def close(self) -> None:
        """Close what it made itself."""
        await self.lingering.close()
        await self.ahead.close()
        await self.keyring.close()
        await self.limiter.close()
        await self.searches.close()


Opened = Callable[[GatewaySettings, Metrics], AbstractAsyncContextManager[Context]]


@asynccontextmanager
async def open_context(settings: GatewaySettings, metrics: Metrics) -> AsyncIterator[Context]:
    """Open everything. The nodes and the broker need not be there yet."""
    executor = ThreadPoolExecutor(settings.gateway_threads, thread_name_prefix="gateway")
    asyncio.get_running_loop().set_default_executor(executor)
    catalog = await asyncio.to_thread(Database, settings.catalog_url)
    try:
        nodes = connect(settings, catalog)
        broker = Broker(settings.broker_url, settings.answer_queues)
        dispatcher = Dispatcher(nodes, broker, metrics, settings.answer_seconds)
        entries = RedisEntries(settings.broker_url)
        lives = Lives(settings.cache_seconds, settings.cache_pinned_seconds)
        cached = CachedAnswering(dispatcher.answer, nodes, entries, metrics, lives)
        answering = cached.answer if settings.cache_answers else dispatcher.answer
        try:
            yield Context(settings, catalog, nodes, broker, answering, metrics)
        finally:
            await entries.close()
            await broker.close()
            await nodes.close()
    finally:
        catalog.close()


async def _context(request: Request) -> Context:  # what is not async, FastAPI calls in a thread
    found: Context = request.app.state.context
    return found


Using = Annotated[Context, Depends(_context)]
"""The context, as a route asks for it."""
