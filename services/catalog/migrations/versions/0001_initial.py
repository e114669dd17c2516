"""The first release's schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _name(longest: int) -> sa.String:
    return sa.String(longest).with_variant(sa.String(longest, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("answer_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("answer_id"),
    )
    op.create_index("answers_by_time", "answers", ["tenant", "created_at"])
    op.create_table(
        "collections",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False, comment="the newest record time given out"),
        sa.Column("history_job", sa.String(64), nullable=False, comment="the only job that may set record times here"),
        sa.PrimaryKeyConstraint("tenant", "collection"),
    )
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column(
            "state", sa.String(16), nullable=False, comment="the step that is done; a resumed erasure goes on after it"
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("erasure_id"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("events_by_record", "events", ["tenant", "collection", "recorded_at"])
    op.create_table(
        "fact_extents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.String(36), nullable=False),
        sa.Column("question_key", sa.String(36), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=False),
        sa.Column("recorded_from", sa.BigInteger(), nullable=False),
        sa.Column("recorded_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("fact_extents_by_question", "fact_extents", ["question_key", "recorded_to"])
    op.create_table(
        "facts",
        sa.Column("fact_id", sa.String(36), nullable=False),
        sa.Column("question_key", sa.String(36), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("also_accepted", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fact_id"),
    )
    op.create_table(
        "generations",
        sa.Column("generation", sa.String(36), nullable=False),
        sa.Column("encoder", sa.String(128), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("funnel", sa.JSON(), nullable=False),
        sa.Column(
            "basis",
            sa.LargeBinary(),
            nullable=True,
            comment="of a rotation: float32, shape (funnel dimensions, dimensions)",
        ),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.String(16),
            nullable=False,
            comment="building, ready, live, kept, dropping or dropped; one is live",
        ),
        sa.Column("verdict", sa.JSON(), nullable=True, comment="the last verification"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("switched_at", sa.BigInteger(), nullable=True, comment="when it last became live"),
        sa.PrimaryKeyConstraint("generation"),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column(
            "cursor",
            sa.Integer(),
            nullable=False,
            comment="input rows durably handled; a resumed job starts after them",
        ),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False, comment="0 first"),
        sa.Column(
            "attempts",
            sa.Integer(),
            nullable=False,
            comment="how often a worker has taken it up; fences the earlier ones",
        ),
        sa.Column("moved_in", sa.Integer(), nullable=False, comment="the attempt in which the cursor last moved"),
        sa.Column(
            "pace", sa.JSON(), nullable=False, comment="[time, cursor, passages] as they stood over the last minute"
        ),
        sa.Column("note", sa.Text(), nullable=False, comment="what it waits for just now"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True, comment="when it was first taken up"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "lease_until"])
    op.create_table(
        "occurrences",
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("passage_id", sa.String(36), nullable=False),
        sa.Column("section", sa.JSON(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "ordinal"),
    )
    op.create_index("occurrences_by_passage", "occurrences", ["passage_id"])
    op.create_table(
        "passage_extents",
        sa.Column("point_id", sa.String(36), nullable=False),
        sa.Column("passage_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=False),
        sa.Column("recorded_from", sa.BigInteger(), nullable=False),
        sa.Column("recorded_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("point_id"),
    )
    op.create_index("passage_extents_by_document", "passage_extents", ["tenant", "collection", "doc_id", "recorded_to"])
    op.create_index("passage_extents_by_end", "passage_extents", ["tenant", "collection", "recorded_to"])
    op.create_index("passage_extents_by_start", "passage_extents", ["tenant", "collection", "recorded_from"])
    op.create_table(
        "passages",
        sa.Column("passage_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column("embedded", sa.Text(), nullable=False, comment="the exact text embedded: title, section path, body"),
        sa.PrimaryKeyConstraint("passage_id"),
    )
    op.create_table(
        "questions",
        sa.Column("question_key", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("question_id", _name(512), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column(
            "digest", sa.String(64), nullable=False, comment="of the question's exact text, which is too long to index"
        ),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("question_key"),
    )
    op.create_index("questions_by_record", "questions", ["tenant", "collection", "recorded_at"])
    op.create_index("questions_by_text", "questions", ["tenant", "collection", "digest"])
    op.create_table(
        "statements",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("view", sa.String(64), nullable=False),
        sa.Column("entity", _name(512), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.String(36), nullable=True, comment="version or fact id; null where nothing holds"),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "view", "entity", "event", "created"),
    )
    op.create_index("statements_by_record", "statements", ["tenant", "collection", "view", "created"])
    op.create_table(
        "synced_files",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("source", sa.String(128), nullable=False, comment="the folder that is kept in step"),
        sa.Column("path", _name(512), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False, comment="a document of the file; empty for a file without any"),
        sa.Column("digest", sa.String(64), nullable=False, comment="SHA-256 of the file's bytes, or why there is none"),
        sa.PrimaryKeyConstraint("tenant", "collection", "source", "path", "doc_id"),
    )
    op.create_table(
        "vector_files",
        sa.Column("file_id", sa.String(36), nullable=False),
        sa.Column("encoder", sa.String(128), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("file_id"),
    )
    op.create_table(
        "vectors",
        sa.Column("item_id", sa.String(36), nullable=False),
        sa.Column("encoder", sa.String(128), nullable=False),
        sa.Column("file_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "encoder"),
    )
    op.create_table(
        "version_extents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=False),
        sa.Column("recorded_from", sa.BigInteger(), nullable=False),
        sa.Column("recorded_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("version_extents_by_document", "version_extents", ["tenant", "collection", "doc_id", "recorded_to"])
    op.create_index("version_extents_by_version", "version_extents", ["version_id"])
    op.create_table(
        "versions",
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("dated", sa.Boolean(), nullable=False),
        sa.Column(
            "pages", sa.JSON(), nullable=False, comment="where each page begins in the text; empty where there are none"
        ),
        sa.PrimaryKeyConstraint("version_id"),
    )
    op.create_index("versions_by_document", "versions", ["tenant", "collection", "doc_id"])
    op.create_table(
        "watermarks",
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reader", "tenant", "collection"),
    )
