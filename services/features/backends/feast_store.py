"""Feast itself: the registry, applied from `feature_repo`, and the online store, materialized."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.common.errors import Internal
from services.features.backends.online import erase_redis, erase_sqlite
from services.features.backends.rows import FEAST_SPAN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PROJECT = "almanac"
_CONFIGURATION = """\
# Written by the features node. Sources are relative to this directory.
project: {project}
provider: local
registry:
  registry_type: file
  path: {directory}/registry.db
online_store:
{online}
offline_store:
  type: dask
entity_key_serialization_version: 3
"""


class FeastStore:
    """Feast's import takes seconds: nothing here loads it before it must."""

    def __init__(self, directory: Path, online_redis: str) -> None:
        self._directory = directory.resolve()
        self._redis = bool(online_redis)
        online = ["type: redis", f"connection_string: {online_redis}"] if online_redis else ["type: sqlite"]
        if not online_redis:
            online.append(f"path: {self._directory}/online.db")
        lines = "\n".join(f"  {line}" for line in online)
        self._configuration = _CONFIGURATION.format(project=PROJECT, directory=self._directory, online=lines)
        self._applied = self._directory / "applied.sha256"
        self._store: Any = None

    async def apply(self) -> None:
        """Apply the definitions unless they are as applied last. A process of its own does it: Feast imports them by
        path, from a working directory of its choice."""
        definitions = _definitions()
        digest = self._digest(definitions)
        if self._applied.exists() and self._applied.read_text() == digest:
            return
        (self._directory / "feature_store.yaml").write_text(self._configuration)
        await _run("-m", "services.features.backends.feast_apply", str(self._directory), str(definitions))
        self._applied.write_text(digest)
        self._store = None

    def materialize(self, view: str, until: int) -> None:
        """Bring the online store to the latest row of each entity up to the instant; blocks, for seconds at first.

        From the start of the span every time: a row that arrives late for an early event may be the latest one.
        """
        store = self._open()
        service = store.get_feature_service(f"{view}_v1")
        names = [projection.name for projection in service.feature_view_projections]
        _recover(store, names)
        store.materialize(_datetime(FEAST_SPAN.start), _datetime(until), feature_views=names)

    def erase(self, view: str, key: str) -> None:
        """Remove an entity from the online store, if there is one; blocks."""
        if self._redis:
            erase_redis(self._open(), key)
        else:
            erase_sqlite(self._directory / "online.db", f"{PROJECT}_{view}", key)

    def _open(self) -> Any:
        if self._store is None:
            from feast import FeatureStore

            self._store = FeatureStore(repo_path=str(self._directory))
        return self._store

    def _digest(self, definitions: Path) -> str:
        parts = [version("feast"), self._configuration]
        parts += [path.name + path.read_text() for path in sorted(definitions.glob("*.py"))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _recover(store: Any, names: list[str]) -> None:
    """Feast refuses for ever to materialize a view whose last materialization was killed; the lock says it was."""
    from feast.feature_view import FeatureViewState

    for name in names:
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


async def _run(*arguments: str) -> None:
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
    if process.returncode:
        raise Internal(f"Feast did not take the definitions in feature_repo: {said.decode(errors='replace')[-2000:]}")


def _datetime(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)
