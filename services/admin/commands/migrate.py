"""`almanac migrate`: the catalog's schema, brought up to this version of Almanac."""

from __future__ import annotations

from typing import Annotated

import typer

from services.admin.context import settings
from services.admin.failures import Failed

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL that would run, and run none of it.")]


def migrate(dry_run: _DryRun = False) -> None:
    """Upgrade the catalog's schema; every process that opens the catalog does so too."""
    from sqlalchemy.exc import OperationalError

    from services.catalog.engine import Database, planned
    from services.catalog.migrations import schema

    url = settings().catalog_url
    try:
        if dry_run:
            typer.echo((planned(url) or "-- nothing to do").rstrip())
            return
        Database(url).close()
    except OperationalError as error:
        raise Failed(f"the catalog cannot be opened: {str(error.orig).strip()}") from error
    typer.echo(f"the catalog has schema {schema.revisions()[-1]}")
