"""Queries of the settings of automatic refills. Those that change them expect the account to be locked."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.db import Database
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, fetch, write

OffReason = Literal["declined", "disputed", "suspended", "closed"]


@dataclass(frozen=True, slots=True)
class Settings:
    """An account's settings of refills, as its row stores them. Amounts are nanos of the account's currency."""

    account_id: UUID
    enabled: bool
    trigger_below_nanos: int
    amount_nanos: int
    monthly_cap_nanos: int | None
    """None: the operator's."""
    off_reason: OffReason | None
    off_at: datetime | None
    declines: int
    last_declined_at: datetime | None
    last_decline: str | None
    last_started_at: datetime | None
    check_at: datetime | None
    """When a job decides about the next refill. None: the next spending that leaves too little schedules one."""


_NAMES = ", ".join(field.name for field in fields(Settings))
_FIND = PointRead(sql("SELECT {names} FROM refill_settings WHERE account_id = k.account", names=_NAMES), account="uuid")
_FIND_LOCKED = sql("SELECT {names} FROM refill_settings WHERE account_id = $1", names=_NAMES)
_UPSERT = """
    INSERT INTO refill_settings
           (account_id, enabled, trigger_below_nanos, amount_nanos, monthly_cap_nanos, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
        ON CONFLICT (account_id) DO UPDATE
       SET enabled = excluded.enabled, trigger_below_nanos = excluded.trigger_below_nanos,
           amount_nanos = excluded.amount_nanos, monthly_cap_nanos = excluded.monthly_cap_nanos,
           off_reason = NULL, off_at = NULL, declines = 0, updated_at = excluded.updated_at
    """
_SET_BELOW = "UPDATE accounts SET refill_below_nanos = $2 WHERE account_id = $1"
_SWITCH_OFF = """
    UPDATE refill_settings
       SET enabled = false, off_reason = $2, off_at = $3, check_at = NULL, updated_at = $3
     WHERE account_id = $1 AND enabled RETURNING account_id
    """
# Of concurrent transactions, the account's lock admits one, and it finds a time that is not null afterwards.
_SCHEDULE = """
    UPDATE refill_settings s SET check_at = $3
      FROM unnest($1::uuid[], $2::bigint[]) AS n (account_id, missing)
     WHERE s.account_id = n.account_id AND s.enabled AND s.check_at IS NULL AND s.amount_nanos >= n.missing
    RETURNING s.account_id
    """
_SET_CHECK = "UPDATE refill_settings SET check_at = $2 WHERE account_id = $1"
_STARTED = "UPDATE refill_settings SET last_started_at = $2, check_at = $2 WHERE account_id = $1"
_PAID = "UPDATE refill_settings SET declines = 0, check_at = NULL, last_decline = NULL WHERE account_id = $1"
_DECLINED = """
    UPDATE refill_settings SET declines = $2, last_declined_at = $3, last_decline = $4, check_at = NULL
     WHERE account_id = $1
    """
# Settings whose job was lost, and those whose money became less by anything but spending.
_LIST_FORGOTTEN = """
    SELECT s.account_id FROM refill_settings s JOIN accounts a USING (account_id)
     WHERE s.enabled AND s.account_id > $1
       AND CASE WHEN s.check_at IS NULL
                THEN a.money_nanos + a.grants_money_nanos < s.trigger_below_nanos
                     AND a.money_nanos + a.grants_money_nanos - a.money_debt_nanos + s.amount_nanos >= 0
                ELSE s.check_at < $2
            END
     ORDER BY s.account_id LIMIT $3
    """


async def find_settings(db: Database, account_id: UUID) -> Settings | None:
    row = await db.find(_FIND, account_id)
    return None if row is None else Settings(**{field.name: row[field.name] for field in fields(Settings)})


async def find_settings_in(tx: Tx, account_id: UUID) -> Settings | None:
    """Return the settings of a locked account."""
    rows = await fetch(tx, _FIND_LOCKED, account_id)
    return Settings(**rows[0]) if rows else None


async def store_settings(
    tx: Tx,
    account_id: UUID,
    *,
    enabled: bool,
    trigger_below_nanos: int,
    amount_nanos: int,
    monthly_cap_nanos: int | None,
    now: datetime,
) -> None:
    """Store what the user, or an admin, has set. Declines before it no longer count."""
    amounts = (trigger_below_nanos, amount_nanos, monthly_cap_nanos)
    await write(tx, _UPSERT, account_id, enabled, *amounts, now)
    await write(tx, _SET_BELOW, account_id, trigger_below_nanos if enabled else None)


async def switch_off(tx: Tx, account_id: UUID, reason: OffReason, now: datetime) -> bool:
    """Switch an account's refills off. Return False if they are off already."""
    if not await fetch(tx, _SWITCH_OFF, account_id, reason, now):
        return False
    await write(tx, _SET_BELOW, account_id, None)
    return True


async def schedule(tx: Tx, missing: Sequence[tuple[UUID, int]], at: datetime) -> list[UUID]:
    """Note that a job decides about accounts' refills. Return those for which it has to be enqueued.

    `missing`: accounts, and what a refill has to cover for them. An account that has a job, and one whose refill would
    not cover this, are left out.
    """
    accounts, amounts = [account_id for account_id, _ in missing], [amount for _, amount in missing]
    return [row["account_id"] for row in await fetch(tx, _SCHEDULE, accounts, amounts, at)]


async def set_check(tx: Tx, account_id: UUID, at: datetime | None) -> None:
    await write(tx, _SET_CHECK, account_id, at)


async def note_started(tx: Tx, account_id: UUID, now: datetime) -> None:
    await write(tx, _STARTED, account_id, now)


async def note_paid(tx: Tx, account_id: UUID) -> None:
    await write(tx, _PAID, account_id)


async def note_declined(tx: Tx, account_id: UUID, declines: int, code: str, now: datetime) -> None:
    await write(tx, _DECLINED, account_id, declines, now, code)


async def list_forgotten(tx: Tx, after: UUID, overdue_since: datetime, limit: int) -> Sequence[UUID]:
    """Return accounts whose next refill no job decides about, in the order of their ids, `after` one."""
    return [row["account_id"] for row in await fetch(tx, _LIST_FORGOTTEN, after, overdue_since, limit)]
