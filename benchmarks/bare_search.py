"""What anybody would write first: one FastAPI route that encodes a query and asks the retriever, and nothing around it.

No keys, no limits, no moment of its own, no texts from the catalog. Run as `python -m benchmarks.bare_search PORT
SCOPE`; SCOPE is JSON: collection, generation, as_of, known_at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from services.common.clients.encoder import EncoderClient
from services.common.clients.retriever import RetrieverClient
from services.common.moment import Moment
from services.common.nodes.encoder import TextKind
from services.common.nodes.retriever import Query, Target
from services.common.nodes.scope import Scope
from services.common.rpc.client import channel
from services.common.settings import Settings


class Wanted(BaseModel):
    query: str
    collection: str = "default"
    limit: int = 10


def create_app(settings: Settings, scope: Scope) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with channel(settings.encoder_address) as one, channel(settings.retriever_address) as two:
            app.state.nodes = EncoderClient(one), RetrieverClient(two)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/search")
    async def find(wanted: Wanted) -> dict[str, Any]:
        encoder, retriever = app.state.nodes
        (vector,) = await encoder.encode(settings.encoder_model, TextKind.QUERY, [wanted.query])
        found = await retriever.search(Query(scope, Target.PASSAGES, wanted.query, vector, wanted.limit))
        return {"hits": [asdict(hit) for hit in found.hits]}

    return app


def main() -> None:
    settings, given = Settings(), json.loads(sys.argv[2])
    moment = Moment(given["as_of"], given["known_at"])
    scope = Scope(settings.tenant, given["collection"], given["generation"], moment)
    app = create_app(settings, scope)
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main()
