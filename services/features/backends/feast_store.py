"""Feast itself: the registry, applied from `feature_repo`, and the online store, materialized."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.common.errors import Conflict, Internal
from services.common.nodes.features import FeatureRow, Value
from services.features.backends.online import JOIN_KEY, drop_redis, drop_sqlite, erase_redis, erase_sqlite
from services.features.definitions import CHANGES
from services.features.span import FEAST_SPAN
from services.features.views import View

_NUMBER = "asked"
"""The column that tells which of the questions a row answers."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PROJECT = "almanac"
_CONFIGURATION = """\
# Written by the features node.
project: {project}
provider: local
registry:
  registry_type: file
  path: {directory}/registry.db
online_store:
{online}
offline_store:
  type: duckdb
entity_key_serialization_version: 3
"""


class FeastStore:
    """Feast's import takes seconds: nothing here loads it before it must."""

    def __init__(self, directory: Path, online_redis: str) -> None:
        self._directory = directory.resolve()
        self._redis = bool(online_redis)
        # One process alone writes, one row an entity. Redis would else pass over a correction of the same event.
        redis = ["type: redis", f"connection_string: {online_redis}", "skip_dedup: true"]
        online = redis if online_redis else ["type: sqlite"]
        if not online_redis:
            online.append(f"path: {self._directory}/online.db")
        lines = "\n".join(f"  {line}" for line in online)
        self._configuration = _CONFIGURATION.format(project=PROJECT, directory=self._directory, online=lines)
        self._applied = self._directory / "applied.sha256"
        self._unfinished = self._directory / "unfinished"
        self._store: Any = None

    async def apply(self) -> None:
        """Apply the definitions unless they are as applied last. Raises Conflict where the plan refuses them.

        Feast writes its registry in place: one that was being written when the process was killed is made anew.
        """
        definitions, anew = _definitions(), self._unfinished.exists()
        digest = self._digest(definitions)
        if not anew and self._applied.exists() and self._applied.read_text() == digest:
            return
        with self._writing_registry():
            await self._run(definitions, *(["--anew"] if anew else []))
        self._applied.write_text(digest)
        self._store = None

    @contextmanager
    def _writing_registry(self) -> Iterator[None]:
        """What is killed or cancelled leaves the mark."""
        self._unfinished.touch()
        try:
            yield
        except Exception:
            self._unfinished.unlink(missing_ok=True)
            raise
        self._unfinished.unlink(missing_ok=True)

    async def plan(self) -> list[str]:
        """What applying the definitions would do, a change a line. Raises Conflict where it would be refused."""
        said = await self._run(_definitions(), "--dry-run")
        return [line for line in said.splitlines() if line.startswith(CHANGES)]

    async def _run(self, definitions: Path, *options: str) -> str:
        """A process of its own does it: Feast imports the definitions by path, from a working directory of its
        choice."""
        self._configure()
        return await _run(
            "-m", "services.features.backends.feast_apply", str(self._directory), str(definitions), *options
        )

    def materialize(self, view: str, until: int) -> None:
        """Bring the online store to the latest row of each entity up to the instant; blocks, for seconds at first.

        From the start of the span every time: a row that arrives late for an early event may be the latest one.
        """
        store = self._open()
        _recover(store, view)
        with self._writing_registry():
            store.materialize(_datetime(FEAST_SPAN.start), _datetime(until), feature_views=[view])

    def write(self, view: View, rows: Sequence[FeatureRow]) -> None:
        """Put rows into the online store, one an entity, by way of the view's push source if it has one; blocks."""
        import pandas as pd

        columns: dict[str, Any] = {name: [row.values[name] for row in rows] for name in view.fields}
        columns[JOIN_KEY] = [row.entity for row in rows]
        columns["event_timestamp"] = [_datetime(max(row.event, FEAST_SPAN.start)) for row in rows]
        columns["created"] = [_datetime(max(row.created, FEAST_SPAN.start)) for row in rows]
        if not rows:
            return
        store, table = self._open(), pd.DataFrame(columns)
        if (pushed := store.get_feature_view(view.name).stream_source) is not None:
            store.push(pushed.name, table)
        else:
            store.write_to_online_store(view.name, df=table)

    def historical(self, view: View, asked: Sequence[tuple[str, int]]) -> list[Mapping[str, Value] | None]:
        """Feast's own point-in-time join of (entity key, instant), as known at that instant; blocks."""
        import pandas as pd

        store = self._open()
        instants = pd.Series([when for _, when in asked], dtype="int64")
        table = pd.DataFrame(
            {
                JOIN_KEY: [key for key, _ in asked],
                "event_timestamp": pd.to_datetime(instants, unit="us", utc=True).astype("datetime64[us, UTC]"),
                _NUMBER: range(len(asked)),
            }
        )
        names = [f"{view.name}:{name}" for name in view.fields]
        joined = store.get_historical_features(table, names, filter_by_created_timestamp=True).to_arrow()
        found: list[Mapping[str, Value] | None] = [None] * len(asked)
        for row in joined.select([_NUMBER, *view.fields]).to_pylist():
            number = row.pop(_NUMBER)
            if any(value is not None for value in row.values()):
                found[number] = row
        return found

    def erase(self, view: str, key: str) -> None:
        """Remove an entity from the online store, if there is one; blocks."""
        if self._redis:
            erase_redis(self._open(), key)
        else:
            erase_sqlite(*self._sqlite(view), key)

    def drop(self, view: View, prefix: str) -> None:
        """Remove from the online store, if there is one, every entity whose key begins so; blocks."""
        if self._redis:
            drop_redis(self._open(), view.name, view.fields, prefix)
        else:
            drop_sqlite(*self._sqlite(view.name), prefix)

    def _sqlite(self, view: str) -> tuple[Path, str]:
        return self._directory / "online.db", f"{PROJECT}_{view}"

    def online(self, view: View, keys: Sequence[str]) -> list[Mapping[str, Value] | None]:
        """For each key the values in the online store, None where it has none; blocks."""
        if not keys:
            return []
        names = [f"{view.name}:{name}" for name in view.fields]
        found = self._open().get_online_features(names, [{JOIN_KEY: key} for key in keys]).to_dict()
        rows = [{name: found[name][at] for name in view.fields} for at in range(len(keys))]
        return [row if any(value is not None for value in row.values()) else None for row in rows]

    def _open(self) -> Any:
        if self._store is None:
            from feast import FeatureStore

            self._configure()
            self._store = FeatureStore(repo_path=str(self._directory))
        return self._store

    def _configure(self) -> None:
        (self._directory / "feature_store.yaml").write_text(self._configuration)

    def _digest(self, definitions: Path) -> str:
        parts = [version("feast"), self._configuration]
        parts += [path.name + path.read_text() for path in sorted(definitions.glob("*.py"))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _recover(store: Any, name: str) -> None:
    """Feast refuses for ever to materialize a view whose last materialization was killed; the lock says it was."""
    from feast.feature_view import FeatureViewState

    view = store.get_feature_view(name)
    if view.state == FeatureViewState.MATERIALIZING:
        view.state = FeatureViewState.GENERATED
        store.registry.apply_feature_view(view, store.project, commit=True)


def _definitions() -> Path:
    """Where `feature_repo` lies; it is found, not imported."""
    found = importlib.util.find_spec("feature_repo")
    if found is None or not found.submodule_search_locations:
        raise Internal("feature_repo is not installed; the features node applies its definitions")
    return Path(found.submodule_search_locations[0])


async def _run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    output = said.decode(errors="replace")[-2000:]
    if "refused: " in output:
        raise Conflict(f"the definitions in feature_repo are refused: {output}")
    if process.returncode:
        raise Internal(f"Feast did not take the definitions in feature_repo: {output}")
    return output


def _datetime(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)
