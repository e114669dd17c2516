"""Take entities out of Feast's online store. Feast itself can only drop whole views."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from services.common.batches import batched

_BATCH = 1000
_LENGTH_BYTES = 4
"""Feast writes the length of a value before it."""

JOIN_KEY = "entity_key"


def erase_sqlite(path: Path, table: str, key: str) -> None:
    """Delete the entity's rows of a view's table, and what the file would keep of them."""
    with _opened(path, table) as store:
        if store is not None:
            store.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (_serialized(key),))
            store.execute("VACUUM")


def drop_sqlite(path: Path, table: str, prefix: str) -> None:
    """Delete the rows of a view's table whose keys begin so."""
    with _opened(path, table) as store:
        if store is not None:
            wanted = prefix.encode()
            where = (len(_serialized("")) + 1, len(wanted), wanted)
            store.execute(f'DELETE FROM "{table}" WHERE substr(entity_key, ?, ?) = ?', where)


@contextmanager
def _opened(path: Path, table: str) -> Iterator[sqlite3.Connection | None]:
    """The store, None where it has no such table. What is deleted is overwritten, in the file and in its log."""
    if not path.exists():
        yield None
        return
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
        store.execute("PRAGMA secure_delete=ON")
        named = store.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        yield store if named.fetchone() else None
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def erase_redis(store: Any, key: str) -> None:
    """Delete the entity's hash, which holds its values of every view with its join key."""
    _client(store).delete(_serialized(key) + store.config.project.encode())


def drop_redis(store: Any, view: str, fields: Iterable[str], prefix: str) -> None:
    """Delete a view's values of every entity whose key begins so. Looks at all keys of the server."""
    from feast.infra.online_stores.helpers import _mmh3

    client, names = _client(store), [f"_ts:{view}", *(_mmh3(f"{view}:{field}") for field in fields)]
    head = _serialized("")[:-_LENGTH_BYTES]
    pattern = _escaped(head) + b"?" * _LENGTH_BYTES + _escaped(prefix.encode()) + b"*"
    for keys in batched(client.scan_iter(match=pattern, count=_BATCH), _BATCH):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hdel(key, *names)
            pipe.execute()


def _escaped(text: bytes) -> bytes:
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", text)


def _client(store: Any) -> Any:
    return store._get_provider().online_store._get_client(store.config.online_store)


def _serialized(key: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    entity = EntityKey(join_keys=[JOIN_KEY], entity_values=[Value(string_val=key)])
    serialized: bytes = serialize_entity_key(entity, entity_key_serialization_version=3)
    return serialized
