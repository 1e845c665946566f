"""Queries of the watched accounts and of tickets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, text

from app.db import Database, Session
from app.db.sql import sql
from app.live.models import StreamTicket

_LIVE_SUM = """
    CASE WHEN grants_expire_at <= $6
         THEN (SELECT coalesce(sum(g.remaining), 0)::bigint FROM grants g
                WHERE g.account_id = w.id AND g.closed_at IS NULL AND (g.unit = 'credit') = {is_credits}
                  AND (g.expires_at IS NULL OR g.expires_at > $6))
         ELSE {column} END AS {column}"""

# Changes with each decision and each larger request, and when an approval expires. Accounts without limits have none.
_APPROVALS = """
    CASE WHEN has_limits OR w.approvals <> ''
         THEN (SELECT coalesce(md5(string_agg(concat_ws(' ', p.approval_id, p.status, p.amount, p.allowed), ','
                                              ORDER BY p.approval_id)), '')
                 FROM approvals p WHERE p.account_id = w.id AND p.status <> 'used' AND p.expires_at > $6)
         ELSE '' END AS approvals"""
# One snapshot: the row of the account includes the entries that are returned with it. LIMIT makes the planner use one
# index lookup per account. Expired grants are read only where an account has some without a ledger entry yet.
FIND_CHANGES = sql(
    """
    SELECT a.*, e.*
      FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::boolean[], $5::text[])
           AS w (id, seen, status, reread, approvals)
     CROSS JOIN LATERAL (
           SELECT account_id, environment, status, currency, plan_name, daily_free, daily_free_day, free, paid,
                  total_uses, last_entry_no, money_nanos, money_debt_nanos, held_credits, held_money_nanos,
                  grants_expire_at, {grants_credits}, {grants_money_nanos}, {approvals}
             FROM accounts
            WHERE account_id = w.id
            LIMIT 1) AS a
      LEFT JOIN LATERAL (
           SELECT l.entry_no, l.pool, l.unit, l.delta, l.balance_after, l.kind, l.cause_type, l.cause_id, l.grant_id,
                  l.created_at,
                  CASE l.cause_type
                  WHEN 'charge' THEN (SELECT run_id FROM charges
                                       WHERE account_id = l.account_id AND charge_id = l.cause_id)
                  WHEN 'tool_usage' THEN (SELECT run_id FROM product_usage_log
                                           WHERE account_id = l.account_id AND usage_log_id = l.cause_id)
                  WHEN 'hold' THEN (SELECT run_id FROM holds
                                     WHERE account_id = l.account_id AND hold_id = l.cause_id)
                  WHEN 'usage_event' THEN (SELECT run_id FROM usage_events
                                            WHERE account_id = l.account_id AND usage_id = l.cause_id)
                  WHEN 'cost_record' THEN (SELECT run_id FROM cost_records
                                            WHERE account_id = l.account_id AND record_id = l.cause_id)
                  END AS run_id
             FROM ledger_entries l
            WHERE l.account_id = w.id AND l.entry_no > w.seen
            ORDER BY l.entry_no
            LIMIT $7) AS e ON true
     WHERE a.last_entry_no <> w.seen OR a.status <> w.status OR w.reread OR a.approvals <> w.approvals
     LIMIT $8
    """,
    approvals=_APPROVALS,
    grants_credits=sql(_LIVE_SUM, column="grants_credits", is_credits="true"),
    grants_money_nanos=sql(_LIVE_SUM, column="grants_money_nanos", is_credits="false"),
)

_INSERT_TICKET = text(
    """
    INSERT INTO stream_tickets (digest, account_id, origin, token_id, token_issued_at, token_expires_at, expires_at)
    SELECT :digest, :account_id, :origin, :token_id, :token_issued_at, :token_expires_at, :expires_at
     WHERE (SELECT count(*) FROM stream_tickets WHERE account_id = :account_id) < :most
    """
)
_TAKE_TICKET = text(
    """
    WITH used AS (DELETE FROM stream_tickets WHERE account_id = :account_id AND digest = :digest RETURNING *)
    SELECT used.*, i.environment, i.oauth_provider, i.external_id
      FROM used JOIN account_identities i ON i.account_id = used.account_id
     LIMIT 1
    """
)


class Seen(NamedTuple):
    """A watched account as its process knows it.

    `reread`: return it in any case. `approvals`: the digest of its approvals.
    """

    account_id: UUID
    entry_no: int
    status: str
    reread: bool
    approvals: str


async def find_changes(
    db: Database,
    seen: Sequence[Seen],
    now: datetime,
    *,
    entries_per_account: int,
    limit: int,
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of accounts that changed, each with the entries after the number that was seen.

    An account without new entries has one row, whose `entry_no` is null. At most `limit` rows, so entries of any
    account may be missing at its end.
    """
    columns = map(list, zip(*seen, strict=True))
    return await db.fetch_rows(FIND_CHANGES, *columns, now, entries_per_account, limit)


async def delete_expired_tickets(tx: Session, now: datetime, *, account_id: UUID | None = None) -> int:
    """Delete expired tickets, of one account or of all. Return their number."""
    statement = delete(StreamTicket).where(StreamTicket.expires_at <= now)
    if account_id is not None:
        statement = statement.where(StreamTicket.account_id == account_id)
    return (await tx.execute(statement)).rowcount


async def insert_ticket(tx: Session, ticket: Mapping[str, Any], *, most: int) -> bool:
    """Store a ticket, unless the account has `most` of them. Return whether it is stored."""
    return (await tx.execute(_INSERT_TICKET, {**ticket, "most": most})).rowcount == 1


async def take_ticket(tx: Session, account_id: UUID, digest: bytes) -> Mapping[str, Any] | None:
    """Delete a ticket and return it with its user's identity. None if it does not exist, or its user was erased."""
    row = (await tx.execute(_TAKE_TICKET, {"account_id": account_id, "digest": digest})).mappings().one_or_none()
    return None if row is None else dict(row)
