"""`/admin/users`: find customers, see where their credits went, and correct balances and status."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, StringConstraints

from app.accounts.erasure import lock_person
from app.admin.audit.log import Admin, record_export
from app.admin.changed import (
    ChangedMeanwhile,
    ChangedReply,
    find_last_change,
)
from app.admin.csv_export import csv_file
from app.admin.dependencies import Administrator, Db, ReportDb, ReportRoute, Support, Viewer
from app.admin.schemas import PAGE, Moment, Pasted, ReasonBody
from app.admin.support_limits import Limits, counted
from app.admin.users import queries
from app.admin.users.queries import Balance, Position, Sort
from app.admin.users.schemas import (
    AccountStatus,
    BillingBody,
    BillingReply,
    InventoryReply,
    SpellingGroup,
    SpellingsReply,
    StatusBody,
    TimelineEntry,
    TimelineReply,
    UserReply,
    UserRow,
    UsersReply,
)
from app.admin.users.search import MAX_GROUPS, list_spelling_groups
from app.admin.users.timeline import KINDS, TimelineKind, list_timeline
from app.analytics.usage_reports import count_uses
from app.auth.caller import Environment
from app.auth.id_tokens.revocations import revoke_tokens_before
from app.billing.dependencies import Billing
from app.db import Database, first_id_at
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, MAX_INT64, ErrorReply
from app.ledger.errors import AccountNotFound
from app.settings import Settings
from app.timestamps import bounded
from app.tools.router import Tools

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
CHANGE: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": ChangedReply | ErrorReply}}
CHANGES_OF_STATUS = ("account.suspend", "account.reopen", "account.close", "account.erase")
Cursor = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.-]{1,64}$")]
router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)


class Filters(BaseModel):
    search: Pasted | None = None
    environment: Environment | None = None
    status: AccountStatus | None = None
    plan_name: Pasted | None = None
    balance: Balance | None = None
    active_since: Moment | None = None
    inactive_since: Moment | None = None


class Page(Filters):
    sort: Sort = "newest"
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Cursor | None = None


@router.get("")
async def list_users(admin: Viewer, db: ReportDb, page: Annotated[Page, Query()]) -> UsersReply:
    """List users. `search`: an account's id, or the beginning of an external id, an e-mail address, a name or a word in
    them. Case, Unicode form and surrounding blanks make no difference. Of several words, all must match.

    Sorting by balance or last activity, and filters on activity, use values as of `as_of`, about a minute ago; the
    fields of each user are current. Accounts that change between pages can appear twice or be skipped.
    """
    filters, sort, limit = page.model_dump(exclude=PAGE), page.sort, page.limit
    before = None if page.cursor is None else _position(sort, page.cursor)
    async with db.read() as session:
        rows = await queries.list_users(session, before=before, limit=limit + 1, sort=sort, **filters)
        old = sort != "newest" or page.active_since is not None or page.inactive_since is not None
        as_of = await queries.find_activity_as_of(session) if old else None
        truncated = page.search is not None and await queries.finds_too_many(session, page.search)
    users = [UserRow(**row) for row in rows[:limit]]
    cursor = _cursor(rows[limit - 1]) if len(rows) > limit else None
    return UsersReply(users=users, next_cursor=cursor, as_of=as_of, truncated=truncated)


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_users(admin: Support, db: ReportDb, primary: Db, filters: Annotated[Filters, Query()]) -> Response:
    """Export all matching users as CSV, newest first, so that each appears exactly once.

    A `search` reads as many matches as the list does. The export is recorded in the audit log.
    """

    async def next_page(last: queries.Row | None, limit: int) -> Sequence[queries.Row]:
        before = None if last is None else Position(None, last["account_id"])
        async with db.read() as session:
            return await queries.list_users(session, before=before, limit=limit, **filters.model_dump())

    record = partial(record_export, primary, admin, "users", filters.model_dump())
    return await csv_file("users", tuple(UserRow.model_fields), next_page, record)


@router.get("/spellings")
async def list_spellings(admin: Viewer, db: ReportDb) -> SpellingsReply:
    """List open accounts whose identities differ only in case, width or Unicode form: possibly the same person's.

    The service never merges them. Closed accounts are omitted.
    """
    async with db.read() as session:
        groups = await list_spelling_groups(session)
        ids = [account_id for group in groups[:MAX_GROUPS] for account_id in group]
        rows = await queries.list_users_by_id(session, ids)
    users = {row["account_id"]: UserRow(**row) for row in rows}
    shown = [[users[account_id] for account_id in group if account_id in users] for group in groups[:MAX_GROUPS]]
    return SpellingsReply(
        groups=[SpellingGroup(users=group) for group in shown if len(group) > 1], truncated=len(groups) > MAX_GROUPS
    )


@router.get("/{account_id}", responses=NOT_FOUND)
async def get_user(account_id: UUID, admin: Viewer, db: Db, tools: Tools) -> UserReply:
    row = await find_user(db, account_id)
    products = [
        InventoryReply(
            product_type=balance.product_type,
            free=balance.free,
            paid=balance.paid,
            main_pool=balance.main_pool,
            total_uses=balance.total_uses,
        )
        for balance in await tools.balances(account_id, admin.now)
    ]
    async with db.consistent_read() as session:
        uses = await count_uses(session, account_id)
    return UserReply(**row, uses=uses, products=products)


@router.get("/{account_id}/timeline", responses=NOT_FOUND)
async def get_timeline(
    account_id: UUID,
    admin: Viewer,
    db: Db,
    kind: Annotated[list[TimelineKind], Query(max_length=len(KINDS))] = [],  # noqa: B006  (FastAPI copies it)
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
    until: Moment | None = None,
    interaction_id: Pasted | None = None,
) -> TimelineReply:
    """List all events of an account together, newest first. Without `kind`: charges and tool uses, usage events,
    credits, money, grants given and ended, purchases, and admins' actions.

    Each event appears once. An adjustment is the credit, with the admin who made it, unless `admin` is the only kind;
    so is a grant. A usage event is in the order of its recording; `occurred_at` is its own time. A purchase appears
    when its credits are booked, and until then when it was started. `until` keeps only older events; `interaction_id`
    keeps only the charges and tool uses that name the interaction.
    """
    await find_user(db, account_id)
    kinds = sorted(set(kind)) or KINDS
    async with db.read() as session:
        bounds = [bound for bound in (cursor, None if until is None else first_id_at(until)) if bound is not None]
        rows = await list_timeline(
            session,
            account_id,
            kinds,
            before=min(bounds, default=None),
            limit=limit + 1,
            interaction_id=interaction_id,
        )
    entries = [TimelineEntry(**row) for row in rows[:limit]]
    return TimelineReply(entries=entries, next_cursor=entries[-1].id if len(rows) > limit else None)


@router.post("/{account_id}/suspend", responses=CHANGE)
async def suspend_user(
    account_id: UUID, body: StatusBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> UserRow:
    """Suspend the account: it cannot spend. The agent receives the reason."""
    return await _set_status(account_id, "suspended", body, admin, limits, db, billing)


@router.post("/{account_id}/reopen", responses=CHANGE)
async def reopen_user(
    account_id: UUID, body: StatusBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> UserRow:
    """Reopen a suspended or closed account, so that it can spend again."""
    return await _set_status(account_id, "active", body, admin, limits, db, billing)


@router.post("/{account_id}/close", responses=CHANGE)
async def close_user(
    account_id: UUID, body: StatusBody, admin: Administrator, limits: Limits, db: Db, billing: Billing
) -> UserRow:
    """Close the account: it can neither spend nor receive."""
    return await _set_status(account_id, "closed", body, admin, limits, db, billing)


@router.post("/{account_id}/billing", responses=CHANGE)
async def set_user_billing(
    account_id: UUID, body: BillingBody, admin: Administrator, db: Db, billing: Billing
) -> BillingReply:
    """Set whether the account's metered usage is charged. It is recorded and priced either way.

    Charges of credits are not affected.
    """
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    async with db.transaction() as tx:
        before = await billing.accounts.set_billing_in(tx, account_id, body.billing_enabled, admin.now)
        if before != body.billing_enabled:
            await admin.record(
                tx,
                "account.set_billing",
                "account",
                account_id,
                environment=user["environment"],
                before={"billing_enabled": before},
                after={"billing_enabled": body.billing_enabled},
                reason=body.reason,
            )
    return BillingReply(account_id=account_id, billing_enabled=body.billing_enabled)


@router.post("/{account_id}/revoke-tokens", responses=NOT_FOUND)
async def revoke_user_tokens(account_id: UUID, body: ReasonBody, admin: Support, db: Db) -> UserRow:
    """Revoke all current tokens of the user, everywhere within a second. New tokens work."""
    row = await find_user(db, account_id)
    if row["external_id"] is None:
        raise AccountNotFound
    require_anonymous(body.reason, row)
    async with db.transaction() as tx:
        if not await lock_person(tx, account_id):
            raise AccountNotFound
        await revoke_tokens_before(
            tx,
            admin.now,
            environment=row["environment"],
            oauth_provider=row["oauth_provider"],
            external_id=row["external_id"],
            now=admin.now,
        )
        await admin.record(
            tx,
            "account.revoke_tokens",
            "account",
            account_id,
            environment=row["environment"],
            after={"tokens_before": admin.now},
            reason=body.reason,
        )
    return _row(row)


async def _set_status(
    account_id: UUID,
    new: AccountStatus,
    body: StatusBody,
    admin: Admin,
    limits: Settings,
    db: Database,
    billing: Billing,
) -> UserRow:
    user, reason = await find_user(db, account_id), body.reason
    require_anonymous(reason, user)
    environment = user["environment"]
    status_reason = reason if new == "suspended" else None  # shown to the agent; otherwise only in the audit log
    async with db.transaction() as tx, counted(tx, admin, limits):
        before = await billing.accounts.set_status_in(tx, account_id, new, status_reason, admin.now)
        if body.seen_status not in (None, before[0]):
            last = await find_last_change(tx, "account", account_id, *CHANGES_OF_STATUS)
            raise ChangedMeanwhile(f"The account is now {before[0]}", current=_status(*before), **last)
        if before != (new, status_reason):
            action = {"active": "reopen", "suspended": "suspend", "closed": "close"}[new]
            await admin.record(
                tx,
                f"account.{action}",
                "account",
                account_id,
                environment=environment,
                before=_status(*before),
                after=_status(new, status_reason),
                reason=reason,
            )
    return _row(await find_user(db, account_id))


async def find_user(db: Database, account_id: UUID) -> queries.Row:
    """Return the user. Raise AccountNotFound."""
    async with db.read() as session:
        row = await queries.find_user(session, account_id)
    if row is None:
        raise AccountNotFound
    return row


SHORTEST_NAME = 5  # fewer letters may well be a word
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def _cursor(row: queries.Row) -> str:
    """Return the keyset position after the row: its sort value (credits, or microseconds since 1970) and account."""
    value, account_id = row["sorted_by"], row["account_id"]
    if value is None:
        return str(account_id)
    return f"{(value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value}.{account_id}"


def _position(sort: Sort, cursor: str) -> Position:
    """Return the position of a cursor. Raise InvalidRequest for a cursor that is not from this order."""
    number, _, account_id = cursor.rpartition(".")
    try:
        if sort == "newest":
            return Position(None, UUID(cursor))
        value = int(number)
        if not 0 <= value <= MAX_INT64:
            raise ValueError
        return Position(value if sort == "balance" else bounded(EPOCH + value * MICROSECOND), UUID(account_id))
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "cursor is not from this list: send next_cursor of the previous page", field="cursor"
        ) from None


def require_anonymous(reason: str, user: queries.Row) -> None:
    """Raise InvalidRequest for a reason with one of the user's names: the audit log keeps it permanently."""
    for name in ("external_id", "customer_email", "display_name"):
        known = (user[name] or "").casefold()
        if len(known) >= SHORTEST_NAME and known in reason.casefold():
            raise InvalidRequest(
                "reason must not name the user, because the audit log keeps it permanently: name a ticket",
                field="reason",
            )


def _status(account_status: str, reason: str | None) -> dict[str, str]:
    return {"status": account_status} | ({} if reason is None else {"status_reason": reason})


def _row(row: queries.Row) -> UserRow:
    return UserRow(**{name: row[name] for name in UserRow.model_fields})
