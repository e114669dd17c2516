"""The key of a home: made when its stack starts, kept where only its owner reads it, sent by the command line alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.admin.failures import Failed
from services.admin.settings import AdminSettings
from services.admin.state import Places
from services.catalog import keys
from services.catalog.engine import Database
from services.common.moment import now

SCOPES = ("admin", "ask", "ingest")


def ensure(settings: AdminSettings) -> None:
    """Have a valid key in the home. Raises Failed where the catalog cannot be opened."""
    place = Places(settings.home).key
    with opened(settings) as tx:
        if not _is_valid(tx, _read(place), settings.tenant):
            _, text = keys.create(tx, settings.tenant, SCOPES, name="this home's own", local=True)
            _write(place, text)


@contextmanager
def opened(settings: AdminSettings) -> Iterator[Connection]:
    """A transaction in the catalog, without a gateway. Raises Failed where it cannot be opened."""
    try:
        catalog = Database(settings.catalog_url)
        try:
            with catalog.write() as tx:
                yield tx
        finally:
            catalog.close()
    except OperationalError as error:
        raise Failed(f"the catalog cannot be opened: {str(error.orig).strip()}") from error


def _is_valid(tx: Connection, text: str, tenant: str) -> bool:
    key_id, secret = keys.split(text) or ("", "")
    found = keys.find(tx, key_id)
    if found is None or found.tenant != tenant:
        return False
    return found.digest == keys.digest(secret) and found.valid(now())


def _read(place: Path) -> str:
    with suppress(OSError):
        return place.read_text().strip()
    return ""


def _write(place: Path, text: str) -> None:
    fresh = place.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    fresh.replace(place)
