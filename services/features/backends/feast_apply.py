"""Apply Feast's definitions: python -m services.features.backends.feast_apply DIRECTORY DEFINITIONS [OPTIONS].

DIRECTORY holds feature_store.yaml. A process for this alone, because Feast changes the working directory and imports
the definitions by their path in it. Prints the plan; the exit code is 1 where a part of it is refused. --dry-run leaves
it at that, --anew discards the registry first. One runs at a time: a node that was killed may have left another.
"""

from __future__ import annotations

import fcntl
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.common.nodes.features import Limits, Value
from services.features.backends.online import JOIN_KEY
from services.features.definitions import plan, read_views, write_views
from services.features.views import View

_MICROSECOND = timedelta(microseconds=1)


class Refused(Exception):
    """Definitions that the node could not serve."""


def main(directory: Path, definitions: Path, *options: str) -> int:
    with (directory / "apply.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "--anew" in options:
            (directory / "registry.db").unlink(missing_ok=True)
        return _apply(directory, definitions, "--dry-run" in options)


def _apply(directory: Path, definitions: Path, dry_run: bool) -> int:
    from feast.feature_store import FeatureStore
    from feast.repo_config import load_repo_config
    from feast.repo_operations import _get_repo_contents, apply_total_with_repo_instance

    os.chdir(definitions)
    sys.path.insert(0, str(definitions))
    config = load_repo_config(directory, directory / "feature_store.yaml")
    repository = _get_repo_contents(definitions, config.project, config)
    views = describe(repository, directory)
    planned = plan(read_views(directory), views)
    print("\n".join(planned.lines()))
    if planned.refused:
        return 1
    if not dry_run:
        store = FeatureStore(config=config)
        apply_total_with_repo_instance(store, config.project, store.registry, repository, skip_source_validation=True)
        write_views(directory, views)
    return 0


def describe(repository: Any, directory: Path) -> dict[str, View]:
    """Feast's views as the node reads them; their sources are pointed at the files in its directory.

    Raises Refused for what it could not serve.
    """
    keys = {entity.name: entity.join_key for entity in repository.entities}
    return {
        view.name: _described(view, [keys[name] for name in view.entities], directory)
        for view in repository.feature_views
    }


def _described(view: Any, keys: list[str], directory: Path) -> View:
    source = view.batch_source
    if keys != [JOIN_KEY]:
        raise Refused(f"{view.name}: its entity must have the one join key {JOIN_KEY!r}, not {keys}")
    if (source.timestamp_field, source.created_timestamp_column) != ("event_timestamp", "created"):
        raise Refused(f"{view.name}: its source must have the timestamps 'event_timestamp' and 'created'")
    if source.path != f"offline/{view.name}":
        raise Refused(f"{view.name}: its source must lie in 'offline/{view.name}', not in {source.path!r}")
    source.file_options.uri = f"{directory.resolve()}/offline/{view.name}/*.parquet"
    fields = {feature.name: _kind(view.name, feature) for feature in view.features}
    limits = {feature.name: found for feature in view.features if (found := _limits(view.name, feature)) != Limits()}
    return View(view.name, fields, (view.ttl or timedelta(0)) // _MICROSECOND, limits)


def _limits(view: str, feature: Any) -> Limits:
    """What the field's tags `required`, `least` and `most` demand."""
    tags = feature.tags or {}
    try:
        least, most = (float(tags[name]) if name in tags else None for name in ("least", "most"))
    except ValueError as error:
        raise Refused(f"{view}.{feature.name}: its tags `least` and `most` must be numbers ({error})") from None
    return Limits(tags.get("required") == "true", least, most)


def _kind(view: str, feature: Any) -> type[Value]:
    from feast.types import Bool, Float64, Int64, String

    kinds: tuple[tuple[Any, type[Value]], ...] = ((Bool, bool), (Float64, float), (Int64, int), (String, str))
    for feasts, kind in kinds:
        if feature.dtype == feasts:
            return kind
    raise Refused(f"{view}.{feature.name} is {feature.dtype}; a field is Bool, Int64, Float64 or String")


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
    except Refused as refused:
        sys.exit(f"refused: {refused}")
