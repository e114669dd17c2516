"""The catalog's tables: the source of truth of everything Almanac holds.

Times are int64 microseconds since the epoch. Extents are written once and changed once, when they are closed; nothing
else that a reader may have seen is ever updated.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.sql import text

metadata = MetaData()


def _name(longest: int) -> String:
    """A name, ordered by its bytes on either database."""
    return String(longest).with_variant(String(longest, collation="C"), "postgresql")


def _scope() -> list[Column[str]]:
    return [Column("tenant", _name(64), nullable=False), Column("collection", _name(128), nullable=False)]


def _extent() -> list[Column[int]]:
    names = ("valid_from", "valid_to", "recorded_from", "recorded_to")
    return [Column(name, BigInteger, nullable=False) for name in names]


collections = Table(
    "collections",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False, comment="the newest record time given out"),
    Column("history_job", String(64), nullable=False, comment="the only job that may set record times here"),
)

versions = Table(
    "versions",
    metadata,
    Column("version_id", String(36), primary_key=True),
    *_scope(),
    Column("doc_id", _name(512), nullable=False),
    Column("title", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("dated", Boolean, nullable=False),
    Column("pages", JSON, nullable=False, comment="where each page begins in the text; empty where there are none"),
    Index("versions_by_document", "tenant", "collection", "doc_id"),
)

version_extents = Table(
    "version_extents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version_id", String(36), nullable=False),
    *_scope(),
    Column("doc_id", _name(512), nullable=False),
    *_extent(),
    Index("version_extents_by_document", "tenant", "collection", "doc_id", "recorded_to"),
    Index("version_extents_by_version", "version_id"),
)

passages = Table(
    "passages",
    metadata,
    Column("passage_id", String(36), primary_key=True),
    *_scope(),
    Column("doc_id", _name(512), nullable=False),
    Column("embedded", Text, nullable=False, comment="the exact text embedded: title, section path, body"),
)

occurrences = Table(
    "occurrences",
    metadata,
    Column("version_id", String(36), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("passage_id", String(36), nullable=False),
    Column("section", JSON, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Index("occurrences_by_passage", "passage_id"),
)

passage_extents = Table(
    "passage_extents",
    metadata,
    Column("point_id", String(36), primary_key=True),
    Column("passage_id", String(36), nullable=False),
    *_scope(),
    Column("doc_id", _name(512), nullable=False),
    Column("metadata", JSON, nullable=False),
    *_extent(),
    Index("passage_extents_by_document", "tenant", "collection", "doc_id", "recorded_to"),
    Index("passage_extents_by_start", "tenant", "collection", "recorded_from"),
    Index("passage_extents_by_end", "tenant", "collection", "recorded_to"),
)

questions = Table(
    "questions",
    metadata,
    Column("question_key", String(36), primary_key=True),
    *_scope(),
    Column("question_id", _name(512), nullable=False),
    Column("question", Text, nullable=False),
    Column("digest", String(64), nullable=False, comment="of the question's exact text, which is too long to index"),
    Column("recorded_at", BigInteger, nullable=False),
    Column("phrasing_of", String(36), comment="the key of the question that this one asks in other words, if it does"),
    Index("questions_by_record", "tenant", "collection", "recorded_at"),
    Index("questions_by_text", "tenant", "collection", "digest"),
)

facts = Table(
    "facts",
    metadata,
    Column("fact_id", String(36), primary_key=True),
    Column("question_key", String(36), nullable=False),
    Column("answer", Text, nullable=False),
    Column("also_accepted", JSON, nullable=False),
    Column("source", Text, nullable=False),
)

fact_extents = Table(
    "fact_extents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fact_id", String(36), nullable=False),
    Column("question_key", String(36), nullable=False),
    *_extent(),
    Index("fact_extents_by_question", "question_key", "recorded_to"),
)

statements = Table(
    "statements",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("view", String(64), primary_key=True),
    Column("entity", _name(512), primary_key=True),
    Column("event", BigInteger, primary_key=True),
    Column("created", BigInteger, primary_key=True),
    Column("content", String(36), comment="version or fact id; null where nothing holds"),
    Column("until", BigInteger, nullable=False),
    Index("statements_by_record", "tenant", "collection", "view", "created"),
    Index("statements_by_event", "tenant", "collection", "event", "created"),
)

vector_files = Table(
    "vector_files",
    metadata,
    Column("file_id", String(36), primary_key=True),
    Column("encoder", String(128), nullable=False),
    Column("rows", Integer, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("item_id", String(36), primary_key=True),
    Column("encoder", String(128), primary_key=True),
    Column("file_id", String(36), nullable=False),
)

generations = Table(
    "generations",
    metadata,
    Column("generation", String(36), primary_key=True),
    Column("encoder", String(128), nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("funnel", JSON, nullable=False),
    Column("basis", LargeBinary, comment="of a rotation: float32, shape (funnel dimensions, dimensions)"),
    Column("schema_version", Integer, nullable=False),
    Column(
        "state", String(16), nullable=False, comment="building, ready, live, kept, dropping or dropped; one is live"
    ),
    Column("verdict", JSON, comment="the last verification"),
    Column("created_at", BigInteger, nullable=False),
    Column("switched_at", BigInteger, comment="when it last became live"),
    Column("followed_until", BigInteger, comment="the end of the lease of the worker that brings it up to the record"),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("recorded_at", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("event_id", String(36), primary_key=True),
    *_scope(),
    Column("recorded_at", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Index("events_by_record", "tenant", "collection", "recorded_at"),
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("doc_id", _name(512), primary_key=True),
    Column("measure", String(16), primary_key=True, comment="retrieved, cited, helpful or unhelpful"),
    Column("since", BigInteger, primary_key=True, comment="the instant of valid time from which on it counts"),
    Column("began", BigInteger, primary_key=True, comment="the instant that its windows reach back to"),
    Column("recorded_at", BigInteger, primary_key=True),
    Column("times", Integer, nullable=False, comment="below 0 where a later word took an earlier one back"),
    Index("usage_by_record", "tenant", "collection", "recorded_at"),
)

distributions = Table(
    "distributions",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("hour", BigInteger, primary_key=True, comment="its start"),
    Column("measure", String(32), primary_key=True),
    Column("counts", JSON, nullable=False, comment="of answers in the measure's bins"),
    Index("distributions_by_hour", "tenant", "hour"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(36), primary_key=True),
    *_scope(),
    Column("kind", String(16), nullable=False),
    Column("request", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("cursor", Integer, nullable=False, comment="input rows durably handled; a resumed job starts after them"),
    Column("total", Integer),
    Column("counts", JSON, nullable=False),
    Column("failures", JSON, nullable=False),
    Column("error", Text, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False, comment="0 first"),
    Column("attempts", Integer, nullable=False, comment="how often a worker has taken it up; fences the earlier ones"),
    Column("moved_in", Integer, nullable=False, comment="the attempt in which the cursor last moved"),
    Column("pace", JSON, nullable=False, comment="[time, cursor, passages] as they stood over the last minute"),
    Column("note", Text, nullable=False, comment="what it waits for just now"),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, comment="when it was first taken up"),
    Column("updated_at", BigInteger, nullable=False),
    Index("jobs_by_state", "state", "lease_until"),
)

_OPEN = text("state = 'asked'")

answers = Table(
    "answers",
    metadata,
    Column("answer_id", String(36), primary_key=True),
    *_scope(),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("request", JSON, nullable=False),
    Column("record", JSON),
    Column("created_at", BigInteger, nullable=False),
    Index("answers_by_time", "tenant", "created_at"),
    Index("answers_open", "created_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

erasures = Table(
    "erasures",
    metadata,
    Column("erasure_id", String(36), primary_key=True),
    *_scope(),
    Column("doc_id", _name(512), nullable=False),
    Column("state", String(16), nullable=False, comment="the step that is done; a resumed erasure goes on after it"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

synced_files = Table(
    "synced_files",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("collection", _name(128), primary_key=True),
    Column("source", String(128), primary_key=True, comment="the folder that is kept in step"),
    Column("path", _name(512), primary_key=True),
    Column("doc_id", _name(512), primary_key=True, comment="a document of the file; empty for a file without any"),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the file's bytes, or why there is none"),
)

profiles = Table(
    "profiles",
    metadata,
    Column("tenant", _name(64), primary_key=True),
    Column("user", _name(128), primary_key=True, comment="empty: the profile of the tenant itself"),
    Column("recorded_at", BigInteger, primary_key=True),
    Column("profile", JSON, nullable=False, comment="plan, locale, default adapter and quotas, whole each time"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", String(16), primary_key=True, comment="the public part of the key"),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the secret part, which is random"),
    Column("tenant", _name(64), nullable=False),
    Column("user", _name(128), nullable=False, comment="empty: the tenant's own"),
    Column("name", String(128), nullable=False),
    Column("scopes", JSON, nullable=False, comment="of ask, ingest, admin"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("used_at", BigInteger, comment="to the minute"),
    Index("keys_by_tenant", "tenant"),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", String(36), primary_key=True),
    Column("tenant", _name(64), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False, comment="never a secret, never text of a question or a document"),
    Column("created_at", BigInteger, nullable=False),
    Index("audit_by_time", "tenant", "created_at"),
)
