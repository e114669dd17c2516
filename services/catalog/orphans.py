"""Sweep vector files that no transaction has ever named, or whose erasure died before it removed them."""

from __future__ import annotations

from sqlalchemy import select

from services.catalog.engine import Database
from services.catalog.tables import vector_files
from services.catalog.vectors import VectorFiles
from services.common.batches import batched

ORPHAN_SECONDS = 3600.0
"""A file is written just before the transaction that names it; no batch takes so long in between."""


def sweep_orphans(catalog: Database, files: VectorFiles, seconds: float = ORPHAN_SECONDS) -> int:
    """Remove what is older than that and not named by the catalog; returns how many files."""
    removed = files.remove_broken(seconds)
    for found in batched(files.settled(seconds), 500):
        with catalog.read() as tx:
            named = set(tx.execute(select(vector_files.c.file_id).where(vector_files.c.file_id.in_(found))).scalars())
        for file_id in set(found) - named:
            files.remove(file_id)
            removed += 1
    return removed
