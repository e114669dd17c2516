"""Which files of a folder have been taken in, by content hash, and which documents they said.

A file is noted once its documents are recorded, and what it no longer says is marked first and ended later, when the
whole folder has been gone through: a document that moved to another file must not end in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from services.catalog.commit import Recorder
from services.catalog.tables import synced_files

PARTIAL = "partial"
"""In place of a digest: rows of the file failed, so it is sent again and nothing it once said ends."""
GONE = "gone"
"""In place of a digest: the file says the document no more."""

_table = synced_files.c


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is kept in step with a collection; `source` is its stable name."""

    tenant: str
    collection: str
    source: str

    @property
    def here(self) -> ColumnElement[bool]:
        return and_(_table.tenant == self.tenant, _table.collection == self.collection, _table.source == self.source)


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """A file as taken in, the digest that of its bytes or PARTIAL, and the documents it says."""

    path: str
    digest: str
    documents: frozenset[str]


def known(tx: Connection, folder: Folder) -> tuple[dict[str, str], bool]:
    """The digest of each file, and whether documents wait to be ended."""
    rows = tx.execute(select(_table.path, _table.digest).where(folder.here).distinct()).all()
    return {row.path: row.digest for row in rows if row.digest != GONE}, any(row.digest == GONE for row in rows)


def settle(tx: Connection, folder: Folder, files: Iterable[SyncedFile]) -> None:
    """Note what files say now, and mark what they said before and no more."""
    for file in files:
        here = and_(folder.here, _table.path == file.path)
        before = set(tx.execute(select(_table.doc_id).where(here)).scalars())
        now_said = file.documents or frozenset([""])
        if file.digest == PARTIAL:
            now_said = (now_said | before) - {""}
        tx.execute(update(synced_files).where(here).values(digest=GONE))
        tx.execute(delete(synced_files).where(here, _table.doc_id.in_([*now_said, ""])))
        rows = [
            {
                "tenant": folder.tenant,
                "collection": folder.collection,
                "source": folder.source,
                "path": file.path,
                "doc_id": doc_id,
                "digest": file.digest,
            }
            for doc_id in sorted(now_said)
        ]
        if rows:
            tx.execute(insert(synced_files), rows)


def prune(tx: Connection, folder: Folder, removed: Collection[str]) -> int:
    """End every document that no file of the folder says any more, the removed files' among them; how many ended."""
    tx.execute(update(synced_files).where(folder.here, _table.path.in_(list(removed))).values(digest=GONE))
    rows: list[Row[tuple[str, str]]] = list(tx.execute(select(_table.doc_id, _table.digest).where(folder.here)))
    still = {row.doc_id for row in rows if row.digest != GONE}
    over = sorted({row.doc_id for row in rows if row.digest == GONE} - still - {""})
    if over:
        recorder = Recorder(tx, folder.tenant, folder.collection)
        ended = sum(recorder.end(doc_id) for doc_id in over)
        recorder.close()
    else:
        ended = 0
    tx.execute(delete(synced_files).where(folder.here, _table.digest == GONE))
    return ended
