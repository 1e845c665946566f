"""Queries of approvals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.db import Database, opaque_ids
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, find_many, insert_rows, write
from app.ledger import models
from app.ledger.approvals import PREFIX, Approval, Kind, Status
from app.ledger.key_lines import KEYS_OF_LINE
from app.ledger.limits import Scope, Window

Row: TypeAlias = Mapping[str, Any]


class Place(NamedTuple):
    """The place of an approval, which its id on the wire encodes."""

    account_id: UUID
    approval_id: UUID


REQUESTER = ("key_id", "agent_id", "model", "tool", "run_id")
_STATE = (
    "account_id",
    "approval_id",
    "kind",
    "limit_id",
    "run_uuid",
    "unit",
    *REQUESTER,
    "amount",
    "allowed",
    "status",
    "expires_at",
    "created_at",
)
_FIND_OPEN = """
    SELECT {columns} FROM approvals
     WHERE account_id = ANY ($1::uuid[]) AND status <> 'used' AND expires_at > $2 AND {about}
     ORDER BY created_at, approval_id
    """
_FIND_OF_LIMITS = sql(
    _FIND_OPEN,
    columns=sql(
        "{columns}, CASE WHEN approvals.key_id IS NULL THEN '{{}}' ELSE {keys} END AS keys",
        columns=", ".join(_STATE),
        keys=sql(KEYS_OF_LINE, key="approvals.key_id"),
    ),
    about="kind = 'limit'",
)
_FIND_OF_RUNS = sql(_FIND_OPEN, columns=", ".join(_STATE), about="kind <> 'limit' AND status <> 'approved'")
_CHANGED = ("account_id", "approval_id", "amount", "status", "used_at")
_UPDATE = sql(
    """
    UPDATE approvals a SET {changes} FROM unnest({arrays}) AS n ({names})
     WHERE a.account_id = n.account_id AND a.approval_id = n.approval_id
    """,
    changes=", ".join(f"{name} = n.{name}" for name in _CHANGED[2:]),
    arrays=arrays_of(models.Approval, _CHANGED),
    names=", ".join(_CHANGED),
)


async def find_of_limits(tx: Tx, account_ids: Sequence[UUID], now: datetime) -> list[Approval]:
    """Return accounts' approvals about limits that wait, may be used or were denied lately, the oldest first."""
    return [_approval(row) for row in await fetch(tx, _FIND_OF_LIMITS, list(account_ids), now)]


async def find_of_runs(tx: Tx, account_ids: Sequence[UUID], now: datetime) -> list[Approval]:
    """Return accounts' approvals about runs that wait or were denied lately, the oldest first."""
    return [_approval(row) for row in await fetch(tx, _FIND_OF_RUNS, list(account_ids), now)]


async def store(tx: Tx, approvals: Sequence[Approval]) -> None:
    """Store new and changed approvals. The caller has locked their accounts."""
    if new := [_row(approval) for approval in approvals if approval.is_new]:
        await insert_rows(tx, models.Approval, new)
    if changed := [approval for approval in approvals if approval.is_changed and not approval.is_new]:
        columns = [[getattr(approval, name) for approval in changed] for name in _CHANGED]
        await write(tx, _UPDATE, *columns)


def _approval(row: Row) -> Approval:
    columns = dict(row)
    requester = tuple(columns.pop(name) for name in REQUESTER)
    limit_id, run_uuid = columns.pop("limit_id"), columns.pop("run_uuid")
    return Approval(requester=requester, about=limit_id or run_uuid, **columns)


def _row(approval: Approval) -> dict[str, Any]:
    about = "limit_id" if approval.kind == "limit" else "run_uuid"
    row = dict.fromkeys(_STATE) | {name: getattr(approval, name, None) for name in _STATE} | {about: approval.about}
    return row | dict(zip(REQUESTER, approval.requester, strict=True)) | {"used_at": approval.used_at}


# --- reads of one and of many, and decisions ---


@dataclass(frozen=True, slots=True)
class Stored:
    """An approval with the limit or the run that it is about."""

    account_id: UUID
    approval_id: UUID
    kind: Kind
    limit_id: UUID | None
    run_uuid: UUID | None
    unit: str
    environment: Environment
    key_id: str | None
    agent_id: str | None
    model: str | None
    tool: str | None
    run_id: str | None
    amount: int
    allowed: int | None
    status: Status
    expires_at: datetime
    created_at: datetime
    decided_at: datetime | None
    decided_by_type: str | None
    decided_by: str | None
    used_at: datetime | None
    scope: Scope | None
    scope_value: str | None
    window: Window | None
    limit_amount: int | None
    refused_run_id: str | None
    """The run that refused, as its caller names it: the requester's, or one above it."""

    @property
    def wire_id(self) -> str:
        return opaque_ids.encode(PREFIX, self.account_id, self.approval_id)

    def status_at(self, now: datetime) -> Literal["pending", "approved", "denied", "used", "expired"]:
        """Return the status. What was approved about a run is in force at once, and does not expire."""
        may_expire = self.status == "pending" or (self.status == "approved" and self.kind == "limit")
        return "expired" if may_expire and self.expires_at <= now else self.status


_OTHERS = ("decided_at", "decided_by_type", "decided_by", "used_at")
_WITH_SUBJECT = sql(
    """
    SELECT {columns}, a.environment, l.scope, l.scope_value, l.time_window AS "window", l.amount AS limit_amount,
           r.run_id AS refused_run_id
      FROM {{approvals}} p JOIN accounts a ON a.account_id = p.account_id
      LEFT JOIN limits l ON l.account_id = p.account_id AND l.limit_id = p.limit_id
      LEFT JOIN runs r ON r.account_id = p.account_id AND r.run_uuid = p.run_uuid
    """,
    columns=", ".join(f"p.{name}" for name in (*_STATE, *_OTHERS)),
)
_STORED = sql(_WITH_SUBJECT, approvals="approvals")
_FIND = PointRead(
    sql("{stored} WHERE p.account_id = k.account AND p.approval_id = k.approval", stored=_STORED),
    account="uuid",
    approval="uuid",
)
_LIST = sql(
    """
    {stored}
     WHERE ($1::uuid IS NULL OR p.account_id = $1)
       AND ($2 OR (p.expires_at > $3 AND (p.status = 'pending' OR (p.status = 'approved' AND p.kind = 'limit'))))
       AND ($4::uuid IS NULL OR p.approval_id < $4)
     ORDER BY p.approval_id DESC LIMIT $5
    """,
    stored=_STORED,
)
# LIMIT makes the planner use one index lookup per account and approval, even if it believes that the table is small.
_FIND_WATCHED = sql(
    """
    {stored}
     ORDER BY p.approval_id
    """,
    stored=sql(
        _WITH_SUBJECT,
        approvals="""
           (SELECT n.* FROM (
                SELECT w.id, o.approval_id FROM unnest($1::uuid[]) AS w (id), LATERAL (
                       SELECT approval_id FROM approvals
                        WHERE account_id = w.id AND status <> 'used' AND expires_at > $4
                        ORDER BY approval_id DESC LIMIT 200) AS o
                 UNION SELECT * FROM unnest($2::uuid[], $3::uuid[])) AS k (account, approval),
                LATERAL (SELECT * FROM approvals
                          WHERE account_id = k.account AND approval_id = k.approval LIMIT 1) AS n)""",
    ),
)
_DECIDE = """
    UPDATE approvals
       SET status = $3, allowed = $4, expires_at = $5, decided_at = $6, decided_by_type = $7, decided_by = $8
     WHERE account_id = $1 AND approval_id = $2
    """


_NAMES = tuple(field.name for field in fields(Stored))


async def find_approval(db: Database, place: Place) -> Stored | None:
    """Return an approval. Without a lock."""
    row = await db.find(_FIND, *place)
    return None if row is None else _stored(row)


async def find_approval_in(tx: Tx, place: Place) -> Stored | None:
    rows = await find_many(tx, _FIND, [place])
    return _stored(rows[0]) if rows else None


async def find_watched(
    db: Database, account_ids: Sequence[UUID], known: Sequence[tuple[UUID, UUID]], now: datetime
) -> list[Stored]:
    """Return accounts' approvals that wait, are in force or were denied lately, and those of `known`, oldest first.

    Of one account, the newest 200 and those of `known`. Without a lock.
    """
    accounts, approvals = [account for account, _ in known], [approval for _, approval in known]
    rows = await db.fetch_rows(_FIND_WATCHED, list(account_ids), accounts, approvals, now)
    return [_stored(row) for row in rows]


async def list_approvals(
    tx: Tx,
    now: datetime,
    *,
    account_id: UUID | None,
    show: Literal["open", "all"],
    limit: int,
    before: UUID | None = None,
) -> list[Stored]:
    """Return approvals of one account or of all, newest first."""
    return [_stored(row) for row in await fetch(tx, _LIST, account_id, show == "all", now, before, limit)]


async def decide(
    tx: Tx, place: Place, *, status: str, allowed: int | None, expires_at: datetime, actor: Actor, now: datetime
) -> None:
    """Record a decision. The caller has locked the account."""
    await write(tx, _DECIDE, *place, status, allowed, expires_at, now, actor.type, actor.id)


def _stored(row: Row) -> Stored:
    return Stored(**{name: row[name] for name in _NAMES})
