"""Looks for markers in everything a stack has written: files as they lie, what they decode to, and Valkey's memory."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import redis

from services.common.settings import Settings


def found(home: Path, markers: Sequence[str]) -> dict[str, set[str]]:
    """Marker → the places that hold it, each named so that a person can go there."""
    places: dict[str, set[str]] = {marker: set() for marker in markers}
    for place, held in _everything(home):
        for marker in markers:
            if any(form in held for form in _forms(marker)):
                places[marker].add(place)
    return places


def _forms(marker: str) -> list[bytes]:
    """As text, as UTF-16, and a UUID as its bytes."""
    plain = marker.encode()
    forms = [plain, plain.upper(), marker.encode("utf-16-le")]
    digits = marker.replace("-", "")
    if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
        forms.append(bytes.fromhex(digits))
    return forms


def _everything(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(home))
        yield f"file:{name}", path.read_bytes()
        if path.suffix == ".db":
            yield from _tables(path, name)
        elif path.suffix == ".parquet":
            yield f"parquet:{name}", repr(pq.read_table(path).to_pydict()).encode()
    yield from _keys(Settings(home=home).broker_url)


def _tables(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in names:
                rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
                yield f"table:{name}:{table}", repr(rows).encode()
    except sqlite3.DatabaseError:  # Feast's registry bears the suffix and is none
        return
    finally:
        database.close()


def _keys(url: str) -> Iterator[tuple[str, bytes]]:
    client = redis.Redis.from_url(url)
    readers = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"hash": client.hgetall,
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        kind = client.type(key)
        held = readers[kind](key) if kind in readers else b""
        yield f"valkey:{key.decode(errors='replace')}", repr((key, held)).encode() + (client.dump(key) or b"")
    client.close()
