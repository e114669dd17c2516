"""/v1/graph: how a question is answered, as data and as a picture."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from services.gateway.caller import Asking
from services.orchestrator.graph.drawing import mermaid
from services.orchestrator.graph.run import plan

router = APIRouter(tags=["answers"])


@router.get("/v1/graph")
async def show(caller: Asking) -> dict[str, Any]:
    """The steps of an answer, in Mermaid's language too."""
    steps = plan()
    return {
        "steps": [
            {
                "step": step.name,
                "node": step.node,
                "needs": list(step.needs),
                "seconds": step.seconds,
                "retries": step.retries,
                "fallback": step.fallback is not None,
            }
            for step in steps
        ],
        "mermaid": mermaid(steps),
    }
