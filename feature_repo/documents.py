"""Documents: what the rank step knows of a document, from when on, as far as it was on record."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.data_format import ParquetFormat
from feast.types import Bool, Float64, Int64, String
from feast.value_type import ValueType

OWNER = "almanac"

document = Entity(
    name="document",
    join_keys=["entity_key"],
    value_type=ValueType.STRING,
    description="A document of a collection; the key is tenant, collection and document id, split by U+001F.",
    owner=OWNER,
    tags={"key": "tenant, collection, document"},
)

documents_source = FileSource(
    name="documents_source",
    path="offline/documents",
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
    description="One file per stretch of a collection's record, relative to the features node's directory.",
    owner=OWNER,
    tags={"node": "features"},
)

documents = FeatureView(
    name="documents",
    entities=[document],
    ttl=timedelta(0),
    schema=[
        Field(name="present", dtype=Bool, description="False: from here on no version of the document is valid."),
        Field(
            name="version_id", dtype=String, description="The valid version in the catalog.", tags={"required": "true"}
        ),
        Field(
            name="length_chars",
            dtype=Int64,
            description="Length of the valid version's parsed text.",
            tags={"least": "0"},
        ),
        Field(
            name="versions",
            dtype=Int64,
            description="How many versions the document has had so far.",
            tags={"least": "1"},
        ),
        Field(
            name="valid_from_us",
            dtype=Int64,
            description="When the version began to hold, microseconds since the epoch, UTC: the basis of its age.",
        ),
        Field(name="dated", dtype=Bool, description="Whether that instant was given; else the document is undated."),
        Field(
            name="authority",
            dtype=Float64,
            description="What the metadata of the valid version say under `authority`, from 0 to 1; 0 where nothing.",
        ),
        Field(name="valid_to", dtype=Int64, description="Until when it holds, microseconds since the epoch, UTC."),
    ],
    source=documents_source,
    online=True,
    description="Length, history and age basis of the version valid from an instant of valid time on.",
    owner=OWNER,
    tags={"node": "features", "grain": "document"},
)

documents_v1 = FeatureService(
    name="documents_v1",
    features=[documents],
    description="What the rank step reads of a document itself.",
    owner=OWNER,
    tags={"node": "features"},
)

WINDOWS = {"1d": "in the last day", "7d": "in the last 7 days", "30d": "in the last 30 days", "ever": "so far"}
MEASURES = {
    "retrieved": "How often searches and answers found a passage of it",
    "cited": "How many answers cited it",
    "helpful": "How many users found an answer that cites it helpful",
    "unhelpful": "How many users found an answer that cites it unhelpful",
}

usage_source = FileSource(
    name="usage_source",
    path="offline/usage",
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
    description="One file per stretch of a collection's record, relative to the features node's directory.",
    owner=OWNER,
    tags={"node": "features"},
)

usage_push = PushSource(
    name="usage_push",
    batch_source=usage_source,
    description="Counts as events fall due.",
    owner=OWNER,
    tags={"node": "features"},
)

usage = FeatureView(
    name="usage",
    entities=[document],
    ttl=timedelta(0),
    schema=[
        Field(name=f"{measure}_{window}", dtype=Int64, description=f"{what}, {when}.", tags={"least": "0"})
        for measure, what in MEASURES.items()
        for window, when in WINDOWS.items()
    ],
    source=usage_push,
    online=True,
    description="What a document was used for, counted from the log of events; a row wherever a count changes.",
    owner=OWNER,
    tags={"node": "features", "grain": "document"},
)

usage_v1 = FeatureService(
    name="usage_v1",
    features=[usage],
    description="What the rank step reads of a document's use.",
    owner=OWNER,
    tags={"node": "features"},
)
