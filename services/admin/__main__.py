"""The `almanac` command. Heavy libraries are imported inside the commands, so that `--help` is quick."""

from __future__ import annotations

import typer

from services.admin.commands import (
    adapters,
    backup,
    capacity,
    doctor,
    documents,
    evaluate,
    features,
    feedback,
    graph,
    ingest,
    jobs,
    keys,
    maintain,
    migrate,
    models,
    profiles,
    read,
    reindex,
    replay,
    stack,
    sync,
)
from services.admin.failures import AlmanacGroup

app = typer.Typer(
    name="almanac",
    cls=AlmanacGroup,
    help="Questions answered as of any moment, with citations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (stack.up, stack.down, stack.status, ingest.ingest, sync.sync, read.collections, read.search, read.ask):
    app.command()(command)
app.command()(replay.compare)
app.command()(replay.timeline)
app.command()(replay.replay)
app.command()(feedback.feedback)
app.command()(graph.graph)
app.command()(graph.trace)
app.command()(documents.history)
app.command()(documents.delete)
app.command()(migrate.migrate)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(doctor.doctor)
app.command()(capacity.capacity)
app.add_typer(models.app, name="models")
app.add_typer(adapters.app, name="adapters")
app.add_typer(ingest.facts, name="facts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(keys.tenants_app, name="tenants")
app.command()(keys.audit)
app.command()(keys.usage)
app.add_typer(features.app, name="features")
app.add_typer(profiles.app, name="profiles")
app.add_typer(reindex.app, name="reindex")
app.command()(maintain.erase)
app.add_typer(evaluate.app, name="eval")


def main() -> None:
    app(prog_name="almanac")


if __name__ == "__main__":
    main()
