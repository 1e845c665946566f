"""Stale pages: rejects an action if its data changed since the admin saw it, with the current data and its author."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import text

from app.billing.errors import InsufficientCredits
from app.db import Session
from app.errors import AppError
from app.http.schemas import ErrorReply, Timestamp

Row = Mapping[str, Any]


class ChangedReply(ErrorReply):
    """409: the data has changed since the admin saw it. Nothing was done."""

    current: dict[str, Any] = Field(description="The current values.")
    changed_by: str | None = Field(
        description="An admin's e-mail address, or another source of the change; null: unknown.",
    )
    changed_at: Timestamp | None


class ChangedMeanwhile(AppError):
    """The data has changed since the admin saw it. Nothing was done: decide again on the current values."""

    status, code = 409, "changed_meanwhile"

    def __init__(
        self, detail: str, *, current: Mapping[str, Any], changed_by: str | None, changed_at: datetime | None
    ) -> None:
        at = None if changed_at is None else changed_at.isoformat()
        super().__init__(detail, figures={"current": dict(current), "changed_by": changed_by, "changed_at": at})


class NotEnoughToTake(AppError):
    """An admin would take more paid credits than the account has. The message is in credits, as elsewhere here."""

    status, code = InsufficientCredits.status, InsufficientCredits.code

    def __init__(self, refused: InsufficientCredits) -> None:
        super().__init__(
            f"The account has {refused.available} paid credits, so {refused.required} cannot be taken",
            figures=refused.figures,
        )


_FIND_LAST_CHANGE = text(
    """
    SELECT admin_email, created_at FROM admin_audit_log
     WHERE target_type = :target_type AND target_id = :target_id AND action = ANY (:actions)
     ORDER BY audit_id DESC LIMIT 1
    """
)
# Reads an account's newest entries, which contain one of the paid pool unless very many free ones followed it.
_FIND_LAST_MOVE = text(
    """
    SELECT e.kind, e.created_at, coalesce(a.email, k.name, e.actor_type) AS actor
      FROM (SELECT * FROM (SELECT kind, pool, actor_type, actor_id, created_at, entry_no FROM ledger_entries
                            WHERE account_id = :account_id ORDER BY entry_no DESC LIMIT 1000) newest
             WHERE pool = 'paid' ORDER BY entry_no DESC LIMIT 1) e
      LEFT JOIN admin_users a ON e.actor_type = 'admin' AND CAST(a.admin_id AS text) = e.actor_id
      LEFT JOIN api_keys k ON e.actor_type = 'api_key' AND k.key_id = e.actor_id
    """
)


async def find_last_change(db: Session, target_type: str, target_id: object, *actions: str) -> Row:
    """Return `changed_by` and `changed_at` of the newest of these actions on a target; nulls if there is none."""
    values = {"target_type": target_type, "target_id": str(target_id), "actions": list(actions)}
    row = (await db.execute(_FIND_LAST_CHANGE, values)).one_or_none()
    return {"changed_by": row and row.admin_email, "changed_at": row and row.created_at}


async def find_last_move(db: Session, account_id: object) -> Row:
    """Return `changed_by` and `changed_at` of the last change of an account's paid credits; nulls if there is none."""
    row = (await db.execute(_FIND_LAST_MOVE, {"account_id": account_id})).one_or_none()
    if row is None:
        return {"changed_by": None, "changed_at": None}
    return {"changed_by": f"{row.actor} ({row.kind.replace('_', ' ')})", "changed_at": row.created_at}
