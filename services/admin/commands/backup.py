"""`almanac backup` and `restore`: all that is truth, in one file or directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.admin.context import AsJson, settings

if TYPE_CHECKING:
    from services.admin.backup import Say

_Target = Annotated[
    Path, typer.Argument(metavar="FILE", help="A name that ends in .tar, for one file; any other: a directory.")
]
_Source = Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="What `almanac backup` wrote.")]
_Home = Annotated[Path | None, typer.Option("--home", help="The home to restore into (ALMANAC_HOME).")]
_Erasures = Annotated[
    Path | None, typer.Option("--erasures", help="The old home's erasures.jsonl: what it names is erased again.")
]


def backup(target: _Target, as_json: AsJson = False) -> None:
    """Write a backup of this home, as of one moment, while its stack runs."""
    from services.admin.backup import make
    from services.admin.render import print_json

    found = make(settings(), target.expanduser().resolve(), _progress(as_json))
    if as_json:
        print_json({"backup": str(target), **found})
        return
    rows = sum(found["tables"].values())
    typer.echo(f"{target}: {rows} rows of {len(found['tables'])} tables, schema {found['schema']}")
    typer.echo(
        f"models are not in it; a restored stack needs {', '.join(found['encoders']) or 'none'} and its generator"
    )


def restore(source: _Source, home: _Home = None, erasures: _Erasures = None, as_json: AsJson = False) -> None:
    """Restore a backup into an empty home whose stack is down. What was erased since is erased again."""
    from services.admin.backup_restore import restore as restored
    from services.admin.render import print_json, warn

    own = settings()
    own = own if home is None else type(own)(home=home)
    done = restored(own, source, erasures, _progress(as_json))
    if as_json:
        print_json({"home": str(own.home), "erased": done.erased, "cancelled": done.cancelled, **done.manifest})
        return
    typer.echo(f"{own.home} is as it was at {done.manifest['made_at']}; `almanac up` builds index and features anew")
    if done.erased:
        typer.echo(f"{len(done.erased)} documents are erased again before they are shown")
    for job_id in done.cancelled:
        warn(f"job {job_id} is cancelled: its files may hold a document erased since; send the others again")


def _progress(quiet: bool) -> Say:
    """A line on standard error for each kind of thing; on a terminal it grows."""
    import sys

    def say(what: str, done: int, total: int) -> None:
        if not quiet and (done == total or sys.stderr.isatty()):
            typer.echo(f"\r{done} of {total} {what}", err=True, nl=done == total)

    return say
