"""Profiles: which plan a tenant or a user is on, and what they are served with, as on record."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.data_format import ParquetFormat
from feast.types import Bool, Int64, String
from feast.value_type import ValueType

OWNER = "almanac"


def schema() -> list[Field]:
    """What a tenant's profile and a user's both have; a user's own value goes before the tenant's."""
    return [
        Field(name="present", dtype=Bool, description="False: from here on there is no profile."),
        Field(name="plan", dtype=String, description="The plan; empty: none set.", tags={"most": "64"}),
        Field(name="locale", dtype=String, description="BCP 47 language tag; empty: none set.", tags={"most": "35"}),
        Field(name="adapter", dtype=String, description="The generator's adapter by default; empty: none."),
        Field(
            name="questions_per_day",
            dtype=Int64,
            description="How many questions a day may bring; 0: no quota.",
            tags={"least": "0"},
        ),
        Field(
            name="tokens_per_day",
            dtype=Int64,
            description="How many tokens a day may be written; 0: no quota.",
            tags={"least": "0"},
        ),
    ]


def source(name: str) -> PushSource:
    """A profile is pushed as soon as it is set; the files are what it is joined from."""
    files = FileSource(
        name=f"{name}_source",
        path=f"offline/{name}",
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        description="One file per stretch of a tenant's profiles, relative to the features node's directory.",
        owner=OWNER,
        tags={"node": "features"},
    )
    return PushSource(
        name=f"{name}_push",
        batch_source=files,
        description="Profiles as they are set.",
        owner=OWNER,
        tags={"node": "features"},
    )


tenant = Entity(
    name="tenant",
    join_keys=["entity_key"],
    value_type=ValueType.STRING,
    description="A tenant; the key is tenant, `_profiles` and tenant once more, split by U+001F.",
    owner=OWNER,
    tags={"key": "tenant, _profiles, tenant"},
)

user = Entity(
    name="user",
    join_keys=["entity_key"],
    value_type=ValueType.STRING,
    description="A user of a tenant; the key is tenant, `_profiles` and user, split by U+001F.",
    owner=OWNER,
    tags={"key": "tenant, _profiles, user"},
)

tenants = FeatureView(
    name="tenants",
    entities=[tenant],
    ttl=timedelta(0),
    schema=schema(),
    source=source("tenants"),
    online=True,
    description="A tenant's profile from when it was set on.",
    owner=OWNER,
    tags={"node": "features", "grain": "tenant"},
)

users = FeatureView(
    name="users",
    entities=[user],
    ttl=timedelta(0),
    schema=schema(),
    source=source("users"),
    online=True,
    description="A user's profile from when it was set on.",
    owner=OWNER,
    tags={"node": "features", "grain": "user"},
)

tenants_v1 = FeatureService(
    name="tenants_v1",
    features=[tenants],
    description="What a tenant's questions are served with.",
    owner=OWNER,
    tags={"node": "features"},
)

users_v1 = FeatureService(
    name="users_v1",
    features=[users],
    description="What a user's questions are served with.",
    owner=OWNER,
    tags={"node": "features"},
)
