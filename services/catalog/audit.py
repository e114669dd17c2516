"""The audit log: who did what to which, with what outcome. Never a secret, never text of a question or a document."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from services.catalog.tables import audit
from services.common.moment import now


def begin(tx: Connection, tenant: str, key_id: str, action: str, subject: str, detail: Mapping[str, Any]) -> str:
    """Note an action before it is done, so that none goes unnoted; returns the entry's id."""
    audit_id = str(uuid.uuid4())
    tx.execute(
        insert(audit).values(
            audit_id=audit_id,
            tenant=tenant,
            key_id=key_id,
            action=action,
            subject=subject,
            detail=dict(detail),
            created_at=now(),
        )
    )
    return audit_id


def end(tx: Connection, audit_id: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Note what came of it. An entry without this is of an action that was cut off."""
    tx.execute(update(audit).where(audit.c.audit_id == audit_id).values(subject=subject, detail=dict(detail)))


def newest(tx: Connection, tenant: str | None, limit: int) -> list[Row[Any]]:
    """The tenant's newest entries, or everybody's, the newest first."""
    query = select(audit).order_by(audit.c.created_at.desc(), audit.c.audit_id).limit(limit)
    return list(tx.execute(query if tenant is None else query.where(audit.c.tenant == tenant)))
