"""The gateway's application: its routes, its errors, its doorman, its resources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.gateway.context import Opened, open_context
from services.gateway.document import describe_by
from services.gateway.doorman import Doorman
from services.gateway.metrics import Metrics
from services.gateway.patience import Patience
from services.gateway.problems import add_handlers
from services.gateway.refusals import REFUSALS
from services.gateway.routes import (
    adapters,
    answers,
    chat,
    collections,
    documents,
    facts,
    features,
    generations,
    graph,
    health,
    history,
    jobs,
    keys,
    maintenance,
    mcp,
    moments,
    pages,
    profiles,
    search,
    sync,
    usage,
)
from services.gateway.settings import GatewaySettings

DESCRIPTION = "Answers from documents and facts as they stood at any moment, with citations that can be checked."


def create_app(settings: GatewaySettings, opened: Opened = open_context) -> FastAPI:
    """The application. `opened` opens what requests work with, when the application starts."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, metrics) as context:
            app.state.context = context
            try:
                yield
            finally:
                await context.close()

    app = FastAPI(
        title="Almanac", description=DESCRIPTION, version="1", lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.draining = False  # told to stop: it still answers, and has its clients leave
    app.add_middleware(Patience, seconds=settings.body_seconds, rate=settings.body_rate)
    app.add_middleware(Doorman, metrics=metrics)
    add_handlers(app)
    describe_by(app)
    for routes in (
        answers,
        moments,
        graph,
        chat,
        mcp,
        search,
        maintenance,
        generations,
        documents,
        facts,
        jobs,
        keys,
        usage,
        features,
        profiles,
        adapters,
        collections,
        history,
        sync,
        health,
        pages,
    ):
        app.include_router(routes.router, responses=None if routes in (health, pages) else REFUSALS)
    return app
