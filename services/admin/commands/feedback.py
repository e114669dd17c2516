"""`almanac feedback`: what a reader of an answer says of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import typer

from services.admin.context import AsJson, connect


class Word(StrEnum):
    """Whether the answer helped."""

    UP = "up"
    DOWN = "down"


def feedback(
    ctx: typer.Context,
    answer: Annotated[str, typer.Argument(help="The answer's id.")],
    word: Annotated[Word, typer.Argument(help="Whether it helped.")],
    note: Annotated[str, typer.Option("--note", help="Why, in up to 1,000 characters.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say whether an answer helped; the last word counts."""
    from services.admin.render import print_json

    body = {"helpful": word is Word.UP, "note": note}
    said = connect(ctx).post(f"/v1/answers/{quote(answer, safe='')}/feedback", body)
    if as_json:
        print_json(said)
    else:
        typer.echo("noted" if said["changed"] else "noted already")
