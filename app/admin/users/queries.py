"""What the back office reads about users: one statement a function, none of which locks or writes.

Ids are UUIDv7, so their order is the order of time, and one is enough for a page's cursor where the newest come first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from app.admin.users.search import find_by_words
from app.db import Session

Row = Mapping[str, Any]
Balance = Literal["empty", "paid", "debt"]
Sort = Literal["newest", "balance", "last_activity"]
ENVIRONMENTS = ("live", "test")
MAX_MATCHES = 500
"""Of each kind (external id, e-mail, name) that a search looks at; who finds more types more."""
_BALANCES: dict[Balance, str] = {
    "empty": "a.paid = 0 AND a.free = 0",
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
    f"(SELECT account_id FROM {table} WHERE lower({column}) LIKE lower(:prefix) LIMIT {MAX_MATCHES})"  # noqa: S608  (our own words; what callers say is bound)
    for table, column in _KINDS
)
_COUNT_MATCHES = text(
    " UNION ALL ".join(
        f"SELECT count(*) FROM (SELECT FROM {table} WHERE lower({column}) LIKE lower(:prefix)"  # noqa: S608  (our own words; what callers say is bound)
        f" LIMIT {MAX_MATCHES + 1}) matches"
        for table, column in _KINDS
    )
)


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: the value that it is sorted by (none for the newest first), and its account."""

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
    """Accounts in the order of `sort`, each with what it was `sorted_by`: the newest, richest or latest active first.

    `search` is an account's id, or how an external id, an e-mail address, a name or a word inside them begins. Where
    balance or activity is sorted by, and wherever activity is filtered by, what counts is the table that the worker
    keeps for it (ADR 7).
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
    # The page is chosen before its persons are looked up. What is put together here are our own words.
    statement = f"""
        SELECT {_COLUMNS}, a.sorted_by
          FROM ({source} LIMIT :limit) a {_PERSON}
         ORDER BY a.sorted_by DESC, a.account_id DESC
    """  # noqa: S608  (our own words; what callers say is bound)
    return [dict(row) for row in (await db.execute(text(statement), {**values, "limit": limit})).mappings()]


def _conditions(
    before: Position | None,
    sort: Sort,
    equal: Mapping[str, str | None],
    search: tuple[str, Sequence[UUID]] | None,
    balance: Balance | None,
    moments: Mapping[str, datetime | None],
) -> tuple[list[str], dict[str, Any]]:
    """SQL about accounts `a` and what is kept to sort them by, `s`, and the values that it names."""
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
        conditions.append("s.paid = 0")  # where they are in the index, instead of behind everybody else
    if before is not None:
        conditions.append("a.account_id < :before" if by is None else f"(s.{by}, s.account_id) < (:value, :before)")
        values |= {"before": before.account_id} | ({} if by is None else {"value": before.value})
    return conditions, values


def _source(by: str | None, conditions: Sequence[str], environments: Sequence[str]) -> str:
    """The accounts that meet `conditions`, in order. Sorted ones come from one index for each environment."""
    kept = "account_activity s JOIN accounts a ON a.account_id = s.account_id"
    if by is None:
        table, wanted = "accounts a", list(conditions)
        if any(condition.startswith("s.") for condition in conditions):
            table = kept
            wanted.append(f"s.environment IN ({', '.join(map(repr, environments))})")
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        return f"SELECT a.*, NULL AS sorted_by FROM {table} {where} ORDER BY a.account_id DESC"  # noqa: S608  (our own words; what callers say is bound)
    where = "".join(f" AND {condition}" for condition in conditions)
    order = f"ORDER BY s.{by} DESC, s.account_id DESC LIMIT :limit"
    parts = (
        f"(SELECT a.*, s.{by} AS sorted_by FROM {kept} WHERE s.environment = {environment!r}{where} {order})"  # noqa: S608  (our own words; what callers say is bound)
        for environment in environments
    )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) a ORDER BY sorted_by DESC, account_id DESC"  # noqa: S608  (our own words; what callers say is bound)


_FIND_AS_OF = text("SELECT as_of FROM account_activity_refresh")


async def find_activity_as_of(db: Session) -> datetime | None:
    """Up to when balances and activities that are sorted by are complete."""
    return (await db.execute(_FIND_AS_OF)).scalar_one_or_none()


async def finds_too_many(db: Session, search: str) -> bool:
    """Whether a search has more matches of a kind than `list_users` looks at."""
    counts = (await db.execute(_COUNT_MATCHES, {"prefix": _prefix(search)})).scalars()
    return any(count > MAX_MATCHES for count in counts) or (await find_by_words(db, search))[1]


_LIST_USERS_BY_ID = text(f"SELECT {_COLUMNS} FROM accounts a {_PERSON} WHERE a.account_id = ANY (:account_ids)")  # noqa: S608  (our own words; what callers say is bound)


async def list_users_by_id(db: Session, account_ids: Sequence[UUID]) -> Sequence[Row]:
    """In no order."""
    return [dict(row) for row in (await db.execute(_LIST_USERS_BY_ID, {"account_ids": account_ids})).mappings()]


_FIND_USER = text(
    f"""
    SELECT {_COLUMNS}, a.status_reason, a.erased_at, a.currency, p.wa_id, p.tenant_id, p.user_role, p.agent_id,
           p.marketing_opt_in, p.marketing_opt_in_at, p.marketing_opt_in_source
      FROM accounts a {_PERSON}
     WHERE a.account_id = :account_id
    """  # noqa: S608  (our own words)
)


async def find_user(db: Session, account_id: UUID) -> Row | None:
    row = (await db.execute(_FIND_USER, {"account_id": account_id})).mappings().one_or_none()
    return None if row is None else dict(row)


def _prefix(search: str) -> str:
    """A LIKE pattern for what begins like `search`, whatever signs are in it."""
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%"


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
