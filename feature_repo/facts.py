"""Facts: which answer a canonical question has, from when on, as far as it was on record."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import Bool, Int64, String
from feast.value_type import ValueType

OWNER = "almanac"

question = Entity(
    name="question",
    join_keys=["entity_key"],
    value_type=ValueType.STRING,
    description="A canonical question; the key is tenant, collection and question key, split by U+001F.",
    owner=OWNER,
    tags={"key": "tenant, collection, question"},
)

facts_source = FileSource(
    name="facts_source",
    path="offline/facts",
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
    description="One file per stretch of a collection's record, relative to the features node's directory.",
    owner=OWNER,
    tags={"node": "features"},
)

facts = FeatureView(
    name="facts",
    entities=[question],
    ttl=timedelta(0),
    schema=[
        Field(name="present", dtype=Bool, description="False: from here on the question has no answer."),
        Field(name="answer", dtype=String, description="The answer.", tags={"required": "true"}),
        Field(name="also_accepted", dtype=String, description="Other spellings of the answer, a JSON list."),
        Field(name="question", dtype=String, description="The question as it was asked.", tags={"required": "true"}),
        Field(name="fact_id", dtype=String, description="The fact in the catalog.", tags={"required": "true"}),
        Field(name="source", dtype=String, description="Where the answer was taken from."),
        Field(name="valid_to", dtype=Int64, description="Until when it holds, microseconds since the epoch, UTC."),
    ],
    source=facts_source,
    online=True,
    description="The answer of a question from an instant of valid time on.",
    owner=OWNER,
    tags={"node": "features", "grain": "question"},
)

facts_v1 = FeatureService(
    name="facts_v1",
    features=[facts],
    description="What the graph reads to answer from a fact.",
    owner=OWNER,
    tags={"node": "features"},
)
