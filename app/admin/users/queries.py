"""Queries of users for the back office: one statement per function. None locks or writes.

Ids are UUIDv7, so they are in the order of time: keyset pagination by id alone lists the newest first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from app.admin.users.search import find_by_words
from app.db import Session
from app.db.sql import sql

Row = Mapping[str, Any]
Balance = Literal["empty", "paid", "debt"]
Sort = Literal["newest", "balance", "last_activity"]
ENVIRONMENTS = ("live", "test")
MAX_MATCHES = 500
"""The most matches of each kind (external id, e-mail, name) that a search reads. Longer search texts find the rest."""
_BALANCES: dict[Balance, str] = {
    "empty": "a.paid = 0 AND a.free = 0 AND a.grants_credits = 0",
    "paid": "a.paid > 0",
    "debt": "a.debt > 0",
}
_SORTED_BY: dict[Sort, str | None] = {"newest": None, "balance": "paid", "last_activity": "last_activity_at"}
_COLUMNS = """
    a.account_id, a.environment, i.oauth_provider, i.external_id, p.customer_email, p.display_name, a.status,
    a.plan_name, a.daily_free, a.free, a.paid, a.debt, a.total_uses, a.created_at, a.updated_at AS last_activity_at
"""
_PERSON = """
    LEFT JOIN LATERAL (SELECT oauth_provider, external_id FROM account_identities
                        WHERE account_id = a.account_id ORDER BY created_at LIMIT 1) i ON true
    LEFT JOIN account_profiles p ON p.account_id = a.account_id
"""
_KINDS = (
    ("account_identities", "external_id"),
    ("account_profiles", "customer_email"),
    ("account_profiles", "display_name"),
)
_MATCHES = " UNION ".join(
    sql(
        "(SELECT account_id FROM {table} WHERE lower({column}) LIKE lower(:prefix) LIMIT {limit})",
        table=table,
        column=column,
        limit=MAX_MATCHES,
    )
    for table, column in _KINDS
)
_COUNT_MATCHES = text(
    " UNION ALL ".join(
        sql(
            "SELECT count(*) FROM"
            " (SELECT FROM {table} WHERE lower({column}) LIKE lower(:prefix) LIMIT {limit}) matches",
            table=table,
            column=column,
            limit=MAX_MATCHES + 1,
        )
        for table, column in _KINDS
    )
)


@dataclass(frozen=True, slots=True)
class Position:
    """A keyset position: the value that the page's last row is sorted by (None for newest first), and its account."""

    value: int | datetime | None
    account_id: UUID


async def list_users(
    db: Session,
    *,
    before: Position | None,
    limit: int,
    sort: Sort = "newest",
    environment: str | None = None,
    search: str | None = None,
    status: str | None = None,
    plan_name: str | None = None,
    balance: Balance | None = None,
    active_since: datetime | None = None,
    inactive_since: datetime | None = None,
) -> Sequence[Row]:
    """Return accounts in the order of `sort`, with the value that they are `sorted_by`, in descending order.

    `search` is an account's id, or the beginning of an external id, an e-mail address, a name or a word in them.
    Sorting by balance or activity, and filters on activity, use the table that the worker keeps for that (ADR 7).
    """
    by_words = [] if search is None else list((await find_by_words(db, search))[0])
    conditions, values = _conditions(
        before,
        sort,
        {"environment": environment, "status": status, "plan_name": plan_name},
        None if search is None else (search, by_words),
        balance,
        {"last_activity_at >= :active_since": active_since, "last_activity_at < :inactive_since": inactive_since},
    )
    source = _source(_SORTED_BY[sort], conditions, [e for e in ENVIRONMENTS if environment in (None, e)])
    # Choose the page before looking up its persons.
    statement = sql(
        """
        SELECT {columns}, a.sorted_by
          FROM ({source} LIMIT :limit) a {person}
         ORDER BY a.sorted_by DESC, a.account_id DESC
        """,
        columns=_COLUMNS,
        source=source,
        person=_PERSON,
    )
    return [dict(row) for row in (await db.execute(text(statement), {**values, "limit": limit})).mappings()]


def _conditions(
    before: Position | None,
    sort: Sort,
    equal: Mapping[str, str | None],
    search: tuple[str, Sequence[UUID]] | None,
    balance: Balance | None,
    moments: Mapping[str, datetime | None],
) -> tuple[list[str], dict[str, Any]]:
    """Return SQL conditions on accounts `a` and their sort values `s`, and the values that they bind."""
    values: dict[str, Any] = {name: value for name, value in equal.items() if value is not None}
    conditions = [f"a.{name} = :{name}" for name in values]
    if search is not None:
        searched, found = search
        account_id = _uuid(searched)
        values["found"] = [*found, *([] if account_id is None else [account_id])]
        values["prefix"] = _prefix(searched)
        conditions.append(f"a.account_id = ANY (ARRAY({_MATCHES} UNION SELECT unnest(CAST(:found AS uuid[]))))")
    if balance is not None:
        conditions.append(_BALANCES[balance])
    for condition, moment in moments.items():
        if moment is not None:
            conditions.append(f"s.{condition}")
            values[condition.rpartition(":")[2]] = moment
    by = _SORTED_BY[sort]
    if by is not None and balance == "empty":
        conditions.append("s.paid = 0")  # reads their part of the index, instead of scanning past all others
    if before is not None:
        conditions.append("a.account_id < :before" if by is None else f"(s.{by}, s.account_id) < (:value, :before)")
        values |= {"before": before.account_id} | ({} if by is None else {"value": before.value})
    return conditions, values


def _source(by: str | None, conditions: Sequence[str], environments: Sequence[str]) -> str:
    """Return SQL for the accounts that meet `conditions`, in order. Sorted ones come from one index per environment."""
    activity = "account_activity s JOIN accounts a ON a.account_id = s.account_id"
    if by is None:
        table, required = "accounts a", list(conditions)
        if any(condition.startswith("s.") for condition in conditions):
            table = activity
            required.append(f"s.environment IN ({', '.join(map(repr, environments))})")
        where = f"WHERE {' AND '.join(required)}" if required else ""
        return sql(
            "SELECT a.*, NULL AS sorted_by FROM {table} {where} ORDER BY a.account_id DESC", table=table, where=where
        )
    where = "".join(f" AND {condition}" for condition in conditions)
    order = f"ORDER BY s.{by} DESC, s.account_id DESC LIMIT :limit"
    parts = (
        sql(
            "(SELECT a.*, s.{by} AS sorted_by FROM {activity} WHERE s.environment = '{environment}'{where} {order})",
            by=by,
            activity=activity,
            environment=environment,
            where=where,
            order=order,
        )
        for environment in environments
    )
    return sql("SELECT * FROM ({parts}) a ORDER BY sorted_by DESC, account_id DESC", parts=" UNION ALL ".join(parts))


_FIND_AS_OF = text("SELECT as_of FROM account_activity_refresh")


async def find_activity_as_of(db: Session) -> datetime | None:
    """Return the time up to which sorted balances and activities are complete."""
    return (await db.execute(_FIND_AS_OF)).scalar_one_or_none()


async def finds_too_many(db: Session, search: str) -> bool:
    """Return whether a search has more matches of a kind than `list_users` reads."""
    counts = (await db.execute(_COUNT_MATCHES, {"prefix": _prefix(search)})).scalars()
    return any(count > MAX_MATCHES for count in counts) or (await find_by_words(db, search))[1]


_LIST_USERS_BY_ID = text(
    sql(
        "SELECT {columns} FROM accounts a {person} WHERE a.account_id = ANY (:account_ids)",
        columns=_COLUMNS,
        person=_PERSON,
    )
)


async def list_users_by_id(db: Session, account_ids: Sequence[UUID]) -> Sequence[Row]:
    """Return the accounts, in no particular order."""
    return [dict(row) for row in (await db.execute(_LIST_USERS_BY_ID, {"account_ids": account_ids})).mappings()]


_FIND_USER = text(
    sql(
        """
        SELECT {columns}, a.status_reason, a.erased_at, a.currency, a.billing_enabled, p.wa_id, p.tenant_id,
               p.user_role, p.agent_id, p.marketing_opt_in, p.marketing_opt_in_at, p.marketing_opt_in_source
          FROM accounts a {person}
         WHERE a.account_id = :account_id
        """,
        columns=_COLUMNS,
        person=_PERSON,
    )
)


async def find_user(db: Session, account_id: UUID) -> Row | None:
    row = (await db.execute(_FIND_USER, {"account_id": account_id})).mappings().one_or_none()
    return None if row is None else dict(row)


def _prefix(search: str) -> str:
    """Return a LIKE pattern for texts that begin with `search`, with its wildcards escaped."""
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%"


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
