"""`almanac reindex`: the index built anew beside the live one, verified, switched to, rolled back."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.admin.context import AsJson, connect

app = typer.Typer(help="Generations of the index, and the feature views.", no_args_is_help=True)

_PATH = "/v1/admin/generations"
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")]
_Name = Annotated[str, typer.Argument(metavar="GENERATION", help="Its name, as `almanac reindex status` shows it.")]


@app.command()
def start(
    ctx: typer.Context,
    encoder: Annotated[str | None, typer.Option(help="The encoder's model (that of the live generation).")] = None,
    dimensions: Annotated[int, typer.Option(min=0, help="Dimensions of the coarse vectors; 0: all there are.")] = 0,
    rotation: Annotated[str | None, typer.Option(help="none or pca, before dimensions are cut (what suits).")] = None,
    quantization: Annotated[str | None, typer.Option(help="Of the coarse vectors: none, int8 or binary.")] = None,
    oversampling: Annotated[float | None, typer.Option(help="Coarse candidates for each item wanted.")] = None,
    lexical: Annotated[bool | None, typer.Option("--lexical/--no-lexical", help="Whether BM25 takes part.")] = None,
    fusion: Annotated[str | None, typer.Option(help="Of dense and lexical scores: dbsf or rrf.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Items each stage gives to the fusion.")] = None,
    rescore: Annotated[bool | None, typer.Option("--rescore/--no-rescore", help="By the full vectors.")] = None,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Allow coarse vectors without rescoring.")] = False,
    wait: _Wait = True,
    as_json: AsJson = False,
) -> None:
    """Build a generation beside the live one; questions go on meanwhile."""
    from services.admin import jobs

    options = {
        "encoder": encoder,
        "dimensions": dimensions,
        "rotation": rotation,
        "quantization": quantization,
        "oversampling": oversampling,
        "lexical": lexical,
        "fusion": fusion,
        "candidates": candidates,
        "rescore": rescore,
        "accept_loss": accept_loss,
    }
    gateway = connect(ctx)
    found = gateway.post(_PATH, options)
    if not as_json:
        typer.echo(f"building {found['generation']['name']}")
    jobs.tell(gateway, found, wait, as_json)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show every generation: what it is, how it stands, how far it is behind."""
    from services.admin.render import print_json, table

    found = connect(ctx).get(_PATH)
    if as_json:
        print_json(found)
        return
    columns = ("name", "state", "encoder", "funnel", "points", "disk MiB", "memory MiB", "behind", "index")
    table((*columns, "verified", "job"), [_row(one) for one in found["generations"]])


@app.command()
def verify(ctx: typer.Context, name: _Name, wait: _Wait = True, as_json: AsJson = False) -> None:
    """Compare a generation with the live one; exit code 1 if it may not take its place."""
    from services.admin import jobs
    from services.admin.failures import Failed
    from services.admin.render import print_json

    gateway = connect(ctx)
    found = gateway.post(f"{_PATH}/{quote(name)}/verify", {})
    if not wait:
        jobs.tell(gateway, found, wait, as_json)
        return
    [found["job"]] = jobs.wait(gateway, [found["job"]], quiet=as_json)
    jobs.require_done([found["job"]])
    verdict = next(one["verdict"] for one in gateway.get(_PATH)["generations"] if one["name"] == name)
    if as_json:
        print_json({**found, "verdict": verdict})
    else:
        _tell(verdict)
    if not verdict["passed"]:
        raise Failed(f"{name} failed its verification")


@app.command()
def switch(
    ctx: typer.Context,
    name: _Name,
    force: Annotated[str | None, typer.Option(metavar="GENERATION", help="Its name again: without a verdict.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a generation live. The one that was is kept, for a rollback."""
    _say(connect(ctx).post(f"{_PATH}/{quote(name)}/switch", {"force": force}), as_json)


@app.command()
def rollback(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make the generation live again that was so before."""
    _say(connect(ctx).post(f"{_PATH}/rollback", {}), as_json)


@app.command()
def drop(ctx: typer.Context, name: _Name, as_json: AsJson = False) -> None:
    """Give up a generation that is not live: its build is cancelled, its index removed."""
    _say(connect(ctx).delete(f"{_PATH}/{quote(name)}"), as_json)


@app.command()
def rebuild(ctx: typer.Context, wait: _Wait = True, as_json: AsJson = False) -> None:
    """Build index and features anew from catalog and vector files alone, without encoding."""
    from services.admin import jobs

    gateway = connect(ctx)
    jobs.tell(gateway, gateway.post("/v1/admin/reindex/rebuild", {}), wait, as_json)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    index, verdict, job = one["index"] or {}, one["verdict"], one["job"]
    sizes = (_mib(index.get(name)) for name in ("disk_bytes", "memory_bytes"))
    standing = "builds" if index.get("building") else index.get("error") or f"{index.get('unbuilt', 0)} unbuilt"
    verified = "" if verdict is None else f"{'passed' if verdict['passed'] else 'failed'} {verdict['checked_at']}"
    working = f"{job['kind']} {job['state']} {job['done']}/{job['total'] or '?'}" if job else ""
    described = (one["name"], one["state"], one["encoder"], _funnel(one))
    return *described, index.get("points", "?"), *sizes, one["behind"], standing, verified, working


def _mib(size: int | None) -> object:
    return "?" if size is None else round(size / 2**20, 1)


def _funnel(one: dict[str, Any]) -> str:
    funnel = one["funnel"]
    kept = funnel["dimensions"] or one["dimensions"]
    parts = [f"{kept} of {one['dimensions']}", funnel["rotation"], funnel["quantization"]]
    parts += [f"x{funnel['oversampling']:g}", "" if funnel["rescore"] else "no rescoring"]
    parts += [funnel["fusion"] if funnel["lexical"] else "dense only"]
    return " ".join(part for part in parts if part and part != "none")


def _tell(verdict: dict[str, Any]) -> None:
    from services.admin.render import clean

    recall = ", ".join(f"{name} {value}" for name, value in verdict["recall@10"].items())
    typer.echo(f"{'passed' if verdict['passed'] else 'failed'} against {verdict['against']}")
    typer.echo(f"{verdict['points']} points in {verdict['collections']} collections; {verdict['asked']} queries")
    typer.echo(f"overlap@10 {verdict['overlap@10']}; recall@10 {recall or 'nothing to ask'}")
    for reason in verdict["reasons"]:
        typer.echo(f"- {clean(reason)}")


def _say(found: dict[str, Any], as_json: bool) -> None:
    from services.admin.render import print_json

    if as_json:
        print_json(found)
    else:
        typer.echo(" · ".join(f"{name} {value}" for name, value in found.items()))
