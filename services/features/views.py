"""Feature views as the node reads and writes them: their fields, their ttl and their entity keys.

Feast's registry defines them, from `feature_repo`. Some are known beforehand, so that a fresh home answers before Feast
is loaded; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import InvalidRequest, NotFound
from services.common.moment import OPEN_END, OPEN_START
from services.common.nodes.features import DOCUMENTS, FACTS, TENANTS, USERS, FeatureRow, Limits, Value
from services.common.nodes.usage import FIELDS as USAGE_FIELDS
from services.common.nodes.usage import USAGE

PRESENT = "present"
"""The field that says whether anything holds from the row's event on; where it is not given, `found` says it."""

SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class View:
    """Field → type; `ttl` in microseconds is how long a row holds after its event, 0 for ever.

    Every stored row carries every field; what was not given is its type's zero. `limits` of fields are checked, not
    enforced, and make no other view.
    """

    name: str
    fields: Mapping[str, type[Value]]
    ttl: int = 0
    limits: Mapping[str, Limits] = field(default_factory=dict, compare=False)


_PROFILE: Mapping[str, type[Value]] = {
    PRESENT: bool,
    "plan": str,
    "locale": str,
    "adapter": str,
    "questions_per_day": int,
    "tokens_per_day": int,
}


VIEWS: Mapping[str, View] = MappingProxyType(
    {
        FACTS: View(
            FACTS,
            {
                PRESENT: bool,
                "answer": str,
                "also_accepted": str,
                "question": str,
                "fact_id": str,
                "source": str,
                "valid_to": int,
            },
        ),
        DOCUMENTS: View(
            DOCUMENTS,
            {
                PRESENT: bool,
                "version_id": str,
                "length_chars": int,
                "versions": int,
                "valid_from_us": int,
                "dated": bool,
                "authority": float,
                "valid_to": int,
            },
        ),
        USAGE: View(USAGE, dict.fromkeys(USAGE_FIELDS, int)),
        TENANTS: View(TENANTS, _PROFILE),
        USERS: View(USERS, _PROFILE),
    }
)


def find_view(views: Mapping[str, View], name: str) -> View:
    """Raises NotFound for a view that is not defined."""
    try:
        return views[name]
    except KeyError:
        raise NotFound(f"there is no feature view {name!r}; there are {', '.join(sorted(views))}") from None


def entity_key(tenant: str, collection: str, entity: str) -> str:
    """The key that an entity has among all tenants. Raises InvalidRequest where two tenants could share one."""
    if SEPARATOR in tenant or SEPARATOR in collection:
        raise InvalidRequest("the name of a tenant or a collection may not contain the character U+001F")
    return f"{tenant}{SEPARATOR}{collection}{SEPARATOR}{entity}"


def tenant_prefix(tenant: str) -> str:
    """What every key of the tenant's entities begins with."""
    return f"{tenant}{SEPARATOR}"


def stored_row(view: View, key: str, row: FeatureRow) -> FeatureRow:
    """The row as it is stored: under its key, with every field of the view; `found` says whether anything holds.

    Raises InvalidRequest for a value the view does not have, one of another type, or an event outside the years 1 to
    9999.
    """
    fields = view.fields
    if unknown := row.values.keys() - fields.keys():
        raise InvalidRequest(
            f"the feature view {view.name!r} has no field {min(unknown)!r}; it has {', '.join(fields)}"
        )
    if not OPEN_START <= row.event <= OPEN_END:
        raise InvalidRequest(f"{row.entity!r}: the event {row.event} lies outside the years 1 to 9999")
    if not row.found and PRESENT not in fields:
        raise InvalidRequest(
            f"{row.entity!r}: the feature view {view.name!r} has no field {PRESENT!r} to state a gap with"
        )
    given = {PRESENT: row.found, **row.values}
    values = {name: _typed(view, name, kind, given.get(name, kind())) for name, kind in fields.items()}
    return FeatureRow(key, bool(values.get(PRESENT, row.found)), row.event, row.created, values)


def _typed(view: View, name: str, kind: type[Value], value: Value) -> Value:
    if kind is bool and value in (0, 1):
        return bool(value)
    if type(value) is not kind:
        raise InvalidRequest(f"{view.name}.{name} is of type {kind.__name__}, not {type(value).__name__}")
    return value
