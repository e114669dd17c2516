"""Which schema a database has, and the way to the newest one.

Alembic is imported only where there is something to do, for that takes longer than all the rest of opening a catalog.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from services.common.errors import Conflict

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent
_LOCK = 0x616C6D616E6163
"""The advisory lock of whoever upgrades ("almanac")."""


def revisions() -> list[str]:
    """Every revision, the oldest first."""
    return sorted(path.name[:4] for path in (_HERE / "versions").glob("[0-9]*_*.py"))


def is_newest(engine: Engine) -> bool:
    """Whether the database has the newest schema."""
    with engine.connect() as connection:
        return current(connection) == revisions()[-1]


def current(connection: Connection) -> str | None:
    """The revision of the database; None where it is empty.

    Raises Conflict for a schema made by a newer Almanac, or by one before the first release.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if "collections" in tables:
            raise Conflict("the catalog was made by an Almanac before its first release; ingest into a new home")
        return None
    found: str = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    if found not in revisions():
        raise Conflict(f"the catalog has schema {found}, newer than this Almanac's {revisions()[-1]}; upgrade Almanac")
    return found


def upgrade(tx: Connection, revision: str = "head") -> None:
    """Bring the schema there, in this writing transaction; of several processes one does it, the others wait."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if current(tx) == revisions()[-1]:
        return
    from alembic import command

    config = _config()
    config.attributes["connection"] = tx
    command.upgrade(config, revision)


def planned(dialect: str, found: str | None) -> str:
    """The SQL that `upgrade` would run on a database of that revision; empty where there is nothing to do."""
    if found == revisions()[-1]:
        return ""
    from alembic import command

    config = _config(said := io.StringIO())
    config.attributes["dialect"] = dialect
    command.upgrade(config, f"{found or 'base'}:head", sql=True)
    return said.getvalue()


def _config(said: io.StringIO | None = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=said) if said else Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    return config
