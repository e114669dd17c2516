"""/v1/admin/generations: the index built anew beside the live one, verified, switched to, rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import Connection

from services.catalog import generations, jobs
from services.catalog.state import live_generation
from services.common.errors import AlmanacError, InvalidRequest
from services.common.models import load_manifest
from services.common.nodes.encoder import ModelInfo
from services.common.nodes.funnel import DEFAULT, Funnel, Fusion, Quantization, Rotation
from services.common.nodes.retriever import Standing
from services.gateway.bodies import Strict, documented, read_json
from services.gateway.caller import Administering
from services.gateway.context import Context, Using
from services.gateway.job_view import job_json
from services.gateway.parameters import GenerationName
from services.gateway.refusals import refuses
from services.gateway.uploads import queued
from services.orchestrator.graph.answer import iso

router = APIRouter(prefix="/v1/admin/generations", tags=["generations"])

Result = TypeVar("Result")

_LOOKS, _LOOK_SECONDS = 25, 0.2
"""A switch waits so long for the last commits to reach the generation."""


class BuildRequest(Strict):
    """What is not given is as in the live generation's encoder and the default funnel."""

    encoder: str | None = None
    dimensions: Annotated[int, Field(ge=0)] = 0
    rotation: Literal["none", "pca"] | None = None
    quantization: Literal["none", "int8", "binary"] = DEFAULT.quantization.value
    oversampling: float = DEFAULT.oversampling
    rescore: bool = True
    accept_loss: bool = False
    lexical: bool = DEFAULT.lexical
    fusion: Literal["dbsf", "rrf"] = DEFAULT.fusion.value
    candidates: int = DEFAULT.candidates


class SwitchRequest(Strict):
    """`force` repeats the generation's name to switch without a passed verification."""

    force: str | None = None


@router.get("", responses=refuses(504))
async def show_all(using: Using, caller: Administering) -> dict[str, Any]:
    """Every generation: what it is, how it stands, how far it is behind, and its last verification."""

    def read(tx: Connection) -> list[tuple[generations.Standing, jobs.Job | None]]:
        return [(one, generations.latest_job(tx, one.generation.name)) for one in generations.standings(tx)]

    found = await _read(using, read)
    return {"generations": [await _shown(using, one, job) for one, job in found]}


_BUILT = {"dimensions": 32, "rotation": "pca", "quantization": "binary"}


@router.post("", status_code=202, openapi_extra=documented(BuildRequest, _BUILT), responses=refuses(409, 504))
async def start(request: Request, using: Using, caller: Administering) -> JSONResponse:
    """Build a generation beside the live one: a job says how far that is. Questions go on meanwhile."""
    body = await read_json(request, BuildRequest, using.settings.max_body_bytes)
    live = await _read(using, live_generation)
    model = await _model(using, body.encoder or live.encoder)
    funnel = _funnel(using, body, model)

    def begin(tx: Connection) -> tuple[generations.Standing, jobs.Job]:
        made = generations.start(tx, model.name, model.dimensions, funnel)
        return generations.standing(tx, made.name), generations.ask_reindex(tx, caller.tenant, made)

    standing, job = await _write(using, begin)
    told = {"generation": _described(standing), "job": await queued(using, job)}
    return JSONResponse(told, 202, {"Location": f"/v1/jobs/{job.job_id}"})


@router.post("/rollback", responses=refuses(409))
async def rollback(using: Using, caller: Administering) -> dict[str, Any]:
    """Make the generation live again that was so before."""
    live, kept = await _write(using, generations.rollback)
    behind = await _read(using, lambda tx: generations.behind(tx, live))
    return {"live": live, "kept": kept, "behind": behind}


@router.post("/{name}/verify", status_code=202, responses=refuses(404, 409))
async def verify(name: GenerationName, using: Using, caller: Administering) -> JSONResponse:
    """Compare a generation with the live one: the job's end leaves a verdict with the generation."""
    job = await queued(using, await _write(using, lambda tx: generations.ask_verify(tx, caller.tenant, name)))
    return JSONResponse({"job": job}, 202, {"Location": f"/v1/jobs/{job['id']}"})


@router.post("/{name}/switch", openapi_extra=documented(SwitchRequest, {"force": "g2"}), responses=refuses(404, 409))
async def switch(name: GenerationName, request: Request, using: Using, caller: Administering) -> dict[str, Any]:
    """Make a generation live and keep the one that was. Refused without a recent verdict that it passed."""
    body = await read_json(request, SwitchRequest, using.settings.max_body_bytes)
    if body.force not in (None, name):
        raise InvalidRequest(f"force names {body.force!r}; to force this switch it must repeat {name!r}")
    await _caught_up(using, name)
    live, kept = await _write(using, lambda tx: generations.switch(tx, name, forced=body.force is not None))
    return {"live": live, "kept": kept}


@router.delete("/{name}", responses=refuses(404, 409))
async def drop(name: GenerationName, using: Using, caller: Administering) -> dict[str, Any]:
    """Give up a generation that is not live: its build is cancelled, its index removed within seconds."""
    await _write(using, lambda tx: generations.drop(tx, name))
    return {"dropped": name}


async def _model(context: Context, name: str) -> ModelInfo:
    """The encoder's model of that name. Raises InvalidRequest where it does not serve one."""
    served = {model.name: model for model in await context.nodes.encoder.models()}
    if name not in served:
        raise InvalidRequest(
            f"encoder: the encoder does not serve {name[:64]!r}, but {', '.join(sorted(served))}; "
            "add it to ALMANAC_ENCODER_MODELS and start the encoder again"
        )
    return served[name]


def _funnel(context: Context, body: BuildRequest, model: ModelInfo) -> Funnel:
    """Raises InvalidRequest for what the encoder cannot give or what makes no sense."""
    if body.dimensions > model.dimensions:
        raise InvalidRequest(f"dimensions: {body.dimensions}, but {model.name} gives {model.dimensions}")
    whole = body.dimensions in (0, model.dimensions) and body.rotation != "pca"
    return Funnel(
        dimensions=0 if whole else body.dimensions,
        rotation=Rotation.NONE if whole else _rotation(context, body, model.name),
        quantization=Quantization(body.quantization),
        oversampling=body.oversampling,
        rescore=body.rescore,
        accept_loss=body.accept_loss,
        lexical=body.lexical,
        fusion=Fusion(body.fusion),
        candidates=body.candidates,
    )


def _rotation(context: Context, body: BuildRequest, encoder: str) -> Rotation:
    """What was asked for; else none for a model trained to be cut, PCA for any other."""
    if body.rotation is not None:
        return Rotation(body.rotation)
    known = load_manifest(context.settings.models_manifest).get(encoder)
    return Rotation.NONE if known is not None and known.matryoshka else Rotation.PCA


async def _caught_up(context: Context, name: str) -> None:
    """Wait a little for the last commits, so that nobody who saw them does not see them any more."""
    for _ in range(_LOOKS):
        if not (await _read(context, lambda tx: generations.standing(tx, name))).behind:
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _shown(context: Context, standing: generations.Standing, job: jobs.Job | None) -> dict[str, Any]:
    """With what the index itself says, where it answers."""
    try:
        held = await context.nodes.retriever.standing(standing.generation.name)
        index: dict[str, Any] | None = None if held is None else _told(held)
    except AlmanacError as error:
        index = {"error": error.detail}
    return {**_described(standing), "index": index, "job": job and job_json(job)}


def _told(held: Standing) -> dict[str, Any]:
    """Null for what the engine cannot tell."""
    return {**asdict(held), "disk_bytes": held.disk_bytes or None, "memory_bytes": held.memory_bytes or None}


def _described(standing: generations.Standing) -> dict[str, Any]:
    generation, verdict = standing.generation, standing.verdict
    return {
        "name": generation.name,
        "state": standing.state,
        "encoder": generation.encoder,
        "dimensions": generation.dimensions,
        "funnel": generation.funnel.to_json(),
        "behind": standing.behind,
        "verdict": verdict and {key: value for key, value in verdict.items() if key != "checked_us"},
        "created_at": iso(standing.created_at),
        "switched_at": None if standing.switched_at is None else iso(standing.switched_at),
    }


async def _read(context: Context, work: Callable[[Connection], Result]) -> Result:
    def within() -> Result:
        with context.catalog.read() as tx:
            return work(tx)

    return await asyncio.to_thread(within)


async def _write(context: Context, work: Callable[[Connection], Result]) -> Result:
    def within() -> Result:
        with context.catalog.write() as tx:
            return work(tx)

    return await asyncio.to_thread(within)
