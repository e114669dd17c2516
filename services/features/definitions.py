"""What Feast's registry defines, as the node keeps it beside the registry, and what a change of it would do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.common.nodes.features import Limits, Value
from services.features.views import View

_FILE = "views.json"
_NONE = "nothing changes"
CHANGES = ("+ ", "- ", "~ ", _NONE)
"""What the lines of a plan that is not refused begin with."""
_KINDS: Mapping[str, type[Value]] = {"bool": bool, "int": int, "float": float, "str": str}


@dataclass(frozen=True, slots=True)
class Plan:
    """Names of views, `view.field` of fields. What is refused would make history unreadable, and says why."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        marks = {"+": self.added, "-": self.removed, "~": self.changed, "refused:": self.refused}
        return [f"{mark} {what}" for mark, names in marks.items() for what in names] or [_NONE]


def plan(before: Mapping[str, View], after: Mapping[str, View]) -> Plan:
    """A view or a field may come or go: the files of a view that goes stay, a field that goes is taken out of them. A
    field that is to have another type is refused, for its rows cannot be read as that."""
    both = sorted(before.keys() & after.keys())
    fields = {name: (before[name].fields, after[name].fields) for name in both}
    return Plan(
        added=(
            *sorted(after.keys() - before.keys()),
            *(f"{name}.{one}" for name, (old, new) in fields.items() for one in sorted(new.keys() - old.keys())),
        ),
        removed=(
            *sorted(before.keys() - after.keys()),
            *(f"{name}.{one}" for name, (old, new) in fields.items() for one in sorted(old.keys() - new.keys())),
        ),
        changed=tuple(
            f"{name}: ttl from {before[name].ttl} to {after[name].ttl} µs"
            for name in both
            if before[name].ttl != after[name].ttl
        )
        + tuple(f"{name}: limits of its fields" for name in both if before[name].limits != after[name].limits),
        refused=tuple(
            f"{name}.{one} is {old[one].__name__} on record and cannot become {new[one].__name__}; "
            "give the new field another name"
            for name, (old, new) in fields.items()
            for one in sorted(old.keys() & new.keys())
            if old[one] is not new[one]
        ),
    )


def read_views(directory: Path) -> dict[str, View]:
    """The views as applied last; none before that."""
    path = directory / _FILE
    if not path.exists():
        return {}
    return {name: _view(name, said) for name, said in json.loads(path.read_text()).items()}


def write_views(directory: Path, views: Mapping[str, View]) -> None:
    unseen = directory / f".{_FILE}.tmp"
    unseen.write_text(json.dumps({name: _said(view) for name, view in views.items()}, indent=1))
    unseen.replace(directory / _FILE)


def _view(name: str, said: Any) -> View:
    limits = {field: Limits(**demanded) for field, demanded in said.get("limits", {}).items()}
    return View(name, {field: _KINDS[kind] for field, kind in said["fields"].items()}, said["ttl_us"], limits)


def _said(view: View) -> Any:
    return {
        "ttl_us": view.ttl,
        "fields": {field: kind.__name__ for field, kind in view.fields.items()},
        "limits": {field: asdict(limits) for field, limits in view.limits.items()},
    }
