"""How Alembic runs the revisions: in the caller's transaction, or as SQL text for a dry run."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from services.catalog.tables import metadata

config = context.config


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def tell(dialect: str) -> None:
    context.configure(dialect_name=dialect, target_metadata=metadata, literal_binds=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    tell(config.attributes["dialect"])
else:
    run(config.attributes["connection"])
