"""How a search came to its hits, for people: scores and ranks of each, stages, and the generation searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from services.admin.render import clean, table

Json = Mapping[str, Any]


def show_explanation(found: Json) -> None:
    """Four parts: the hits' scores with their ranks, the features of their documents as value × weight, the stages in
    order, the generation and its funnel."""
    plan = found["explain"]
    typer.echo()
    table(("n", "passage", "dense", "lexical", "score"), [_hit_row(hit) for hit in found["hits"]])
    if names := [feature["name"] for feature in found["hits"][0].get("features") or ()] if found["hits"] else []:
        typer.echo()
        table(("n", "document", *names), [_features_row(hit) for hit in found["hits"]])
    typer.echo()
    table(("stage", "method", "passing", "points", "ms"), [*_steps(found), *map(_stage_row, plan["stages"])])
    funnel = ", ".join(f"{name} {value}" for name, value in plan["funnel"].items())
    whose = f"generation {plan['generation']}: {plan['encoder']}, {plan['dimensions']} dimensions; {funnel}"
    typer.secho(clean(whose), dim=True)


def _hit_row(hit: Json) -> tuple[object, ...]:
    stages = (_scored(hit["dense"], hit["dense_rank"]), _scored(hit["lexical"], hit["lexical_rank"]))
    return hit["n"], hit["passage_id"], *stages, _scored(hit["score"], hit["n"])


def _features_row(hit: Json) -> tuple[object, ...]:
    weighed = (f"{feature['value']:.3f} × {feature['weight']:g}" for feature in hit["features"])
    return hit["n"], hit["doc_id"], *weighed


def _scored(score: float | None, rank: int | None) -> str:
    return "–" if score is None else f"{score:.4f} (#{rank})"


def _steps(found: Json) -> list[tuple[object, ...]]:
    """The gateway's own steps; the retriever's stages are all within `retrieve`."""
    return [(name, "", "", "", f"{ms:.2f}") for name, ms in found["timings_ms"].items()]


def _stage_row(stage: Json) -> tuple[object, ...]:
    return f"  {stage['name']}", stage["method"], stage["passing"], stage["points"], f"{stage['ms']:.2f}"
