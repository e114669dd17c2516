"""`almanac collections`, `search` and `ask`: what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.admin.context import AsJson, AsOf, Collection, KnownAt, connect
from services.admin.failures import Failed

if TYPE_CHECKING:
    from services.admin.client import Event, Json

_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many passages.")]
_SNIPPET = 240


def collections(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the collections and what they hold."""
    from services.admin.render import print_json, table

    found = connect(ctx).get("/v1/collections")
    if as_json:
        print_json(found)
        return
    columns = ("name", "documents", "passages", "facts", "recorded_to")
    table(columns, [[one.get(column) or 0 for column in columns] for one in found["collections"]])


def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    as_of: AsOf = None,
    known_at: KnownAt = None,
    collection: Collection = "default",
    limit: _Limit = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Show how each passage was found, and the plan.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find passages as they stood at a moment."""
    from services.admin.render import print_json

    body = {"query": query, "collection": collection, "as_of": as_of, "known_at": known_at, "limit": limit}
    found = connect(ctx).post("/v1/search", {**body, "explain": explain or None})
    if as_json:
        print_json(found)
        return
    _show_hits(found)
    if explain:
        from services.admin.explaining import show_explanation

        show_explanation(found)


def _show_hits(found: Json) -> None:
    from services.admin.render import clean, moment, span, timings

    for hit in found["hits"]:
        title = clean(hit.get("title") or hit["doc_id"])
        typer.secho(f"[{hit['n']}] {title}  ", bold=True, nl=False)
        typer.secho(f"{span(hit)}  {hit['score']:.3f}", dim=True)
        text = " ".join(clean(hit["text"]).split())
        typer.echo(f"    {text[:_SNIPPET]}{'…' if len(text) > _SNIPPET else ''}")
    typer.secho(f"{len(found['hits'])} passages, {moment(found['moment'])}", dim=True)
    typer.secho(timings(found.get("timings_ms") or {}), dim=True)
    _tell_degraded(found)


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="The question.")],
    as_of: AsOf = None,
    known_at: KnownAt = None,
    collection: Collection = "default",
    as_json: AsJson = False,
) -> None:
    """Answer a question as of a moment, with citations."""
    from services.admin.render import print_json

    body = {"question": question, "collection": collection, "as_of": as_of, "known_at": known_at, "stream": True}
    answer = listen(connect(ctx).events("POST", "/v1/answers", body), show=not as_json)
    print_json(answer) if as_json else show_answer(answer)


def listen(events: Iterable[Event], show: bool) -> Json:
    """The answer at the end of the stream, its text shown as it is released."""
    from services.admin.client import explain
    from services.admin.render import clean

    for event in events:
        if event.name == "error":
            raise Failed(explain(event.data.get("problem", event.data)))
        if event.name == "done":
            answer: Json = event.data.get("answer", event.data)
            return answer if isinstance(answer, dict) else event.data
        if event.name == "text" and show:
            typer.echo(clean(event.data["text"]), nl=False)
    raise Failed("the answer broke off; see `almanac status`")


def show_answer(answer: Json) -> None:
    from services.admin.render import clean, moment, timings

    typer.echo("\n")
    if answer["grounding"] == "abstained" and answer["citations"]:
        typer.echo("The nearest on record:")
    for citation in answer["citations"]:
        show_citation(citation)
    if original := answer.get("original"):
        typer.secho(f"“{clean(original)}” read as “{clean(answer['question'])}”", dim=True)
    taken = f", from “{clean(answer['moment_phrase'])}”" if answer.get("moment_from") == "question" else ""
    typer.secho(f"{answer['grounding']}, {moment(answer['moment'])}{taken}", dim=True)
    typer.secho(timings(answer.get("timings_ms") or {}), dim=True)
    _tell_degraded(answer)


def show_citation(citation: Json) -> None:
    from services.admin.render import clean, span

    title = clean(citation.get("title") or citation.get("doc_id") or citation["kind"])
    typer.secho(f"[{citation['n']}] {title}  ", bold=True, nl=False)
    typer.secho(f"{citation['kind']}, {span(citation)}", dim=True)
    typer.echo(f"    “{' '.join(clean(citation['quote']).split())}”")
    if citation.get("uri"):
        typer.secho(f"    {clean(citation['uri'])}", dim=True)


def _tell_degraded(found: dict[str, Any]) -> None:
    from services.admin.render import warn

    if found.get("degraded"):
        warn(f"without: {', '.join(found['degraded'])}; see `almanac status`")
