"""Keys, profiles of tenants and users, the audit log, and what documents were used for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _name(longest: int) -> sa.String:
    return sa.String(longest).with_variant(sa.String(longest, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "profiles",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("user", _name(128), nullable=False, comment="empty: the profile of the tenant itself"),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "profile", sa.JSON(), nullable=False, comment="plan, locale, default adapter and quotas, whole each time"
        ),
        sa.PrimaryKeyConstraint("tenant", "user", "recorded_at"),
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(16), nullable=False, comment="the public part of the key"),
        sa.Column("digest", sa.String(64), nullable=False, comment="SHA-256 of the secret part, which is random"),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("user", _name(128), nullable=False, comment="empty: the tenant's own"),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False, comment="of ask, ingest, admin"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True, comment="to the minute"),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_index("keys_by_tenant", "keys", ["tenant"])
    op.create_table(
        "audit",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column(
            "detail", sa.JSON(), nullable=False, comment="never a secret, never text of a question or a document"
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id"),
    )
    op.create_index("audit_by_time", "audit", ["tenant", "created_at"])
    op.create_table(
        "usage",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("doc_id", _name(512), nullable=False),
        sa.Column("measure", sa.String(16), nullable=False, comment="retrieved, cited, helpful or unhelpful"),
        sa.Column(
            "since", sa.BigInteger(), nullable=False, comment="the instant of valid time from which on it counts"
        ),
        sa.Column("began", sa.BigInteger(), nullable=False, comment="the instant that its windows reach back to"),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False, comment="below 0 where a later word took an earlier one back"),
        sa.PrimaryKeyConstraint("tenant", "collection", "doc_id", "measure", "since", "began", "recorded_at"),
    )
    op.create_index("usage_by_record", "usage", ["tenant", "collection", "recorded_at"])
    op.add_column(
        "generations",
        sa.Column(
            "followed_until",
            sa.BigInteger(),
            nullable=True,
            comment="the end of the lease of the worker that brings it up to the record",
        ),
    )
    op.add_column(
        "questions",
        sa.Column(
            "phrasing_of",
            sa.String(36),
            nullable=True,
            comment="the key of the question that this one asks in other words, if it does",
        ),
    )
    op.create_table(
        "distributions",
        sa.Column("tenant", _name(64), nullable=False),
        sa.Column("collection", _name(128), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False, comment="its start"),
        sa.Column("measure", sa.String(32), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False, comment="of answers in the measure's bins"),
        sa.PrimaryKeyConstraint("tenant", "collection", "hour", "measure"),
    )
    op.create_index("distributions_by_hour", "distributions", ["tenant", "hour"])
    op.create_index("statements_by_event", "statements", ["tenant", "collection", "event", "created"])
    asked = sa.text("state = 'asked'")
    op.create_index("answers_open", "answers", ["created_at"], sqlite_where=asked, postgresql_where=asked)
