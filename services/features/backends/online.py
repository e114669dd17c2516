"""Take one entity out of Feast's online store. Feast itself can only drop whole views."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

JOIN_KEY = "entity_key"


def erase_sqlite(path: Path, table: str, key: str) -> None:
    """Delete the entity's rows of a view's table, and what the file would keep of them."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
        store.execute("PRAGMA secure_delete=ON")
        named = store.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        if named.fetchone():
            store.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (_serialized(key),))
        store.execute("VACUUM")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def erase_redis(store: Any, key: str) -> None:
    """Delete the entity's hash, which holds its values of every view with its join key."""
    config = store.config
    client = store._get_provider().online_store._get_client(config.online_store)
    client.delete(_serialized(key) + config.project.encode())


def _serialized(key: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    entity = EntityKey(join_keys=[JOIN_KEY], entity_values=[Value(string_val=key)])
    serialized: bytes = serialize_entity_key(entity, entity_key_serialization_version=3)
    return serialized
