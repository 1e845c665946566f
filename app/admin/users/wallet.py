"""`/admin/users/{account_id}/wallet` and `/grants`: money, and grants that admins give and end."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, status

from app.admin.dependencies import Db, ReportRoute, Support, Viewer
from app.admin.schemas import ReasonBody
from app.admin.support_limits import Limits, counted, require_small, require_small_money
from app.admin.users import wallet_queries as queries
from app.admin.users.router import CHANGE, NOT_FOUND, find_user, require_anonymous
from app.admin.users.wallet_schemas import (
    AccountGrant,
    AccountGrantsReply,
    EndedGrantReply,
    GiveGrantBody,
    GivenGrantReply,
    WalletReply,
)
from app.http.schemas import ERRORS
from app.ledger.errors import AccountNotFound
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT
from app.wallet.dependencies import Wallet
from app.wallet.service import Grant, grant_of

MAX_OFFSET = 10**9
router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)


@router.get("/{account_id}/wallet", responses=NOT_FOUND)
async def get_wallet(account_id: UUID, admin: Viewer, db: Db) -> WalletReply:
    """Return the account's money, debt, grants and lifetime totals, exact."""
    async with db.read() as session:
        row = await queries.find_wallet(session, account_id, admin.now)
    if row is None:
        raise AccountNotFound
    return WalletReply.of(row)


@router.get("/{account_id}/grants", responses=NOT_FOUND)
async def list_account_grants(
    account_id: UUID,
    admin: Viewer,
    db: Db,
    show: Literal["open", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> AccountGrantsReply:
    """List the open grants in the order in which they are spent, or all grants, newest first."""
    await find_user(db, account_id)
    async with db.read() as session:
        rows = await queries.list_grants(
            session, account_id, admin.now, only_open=show == "open", offset=cursor, limit=limit + 1
        )
    grants = [AccountGrant.of(grant_of(row), admin.now) for row in rows[:limit]]
    return AccountGrantsReply(grants=grants, next_cursor=cursor + limit if len(rows) > limit else None)


@router.post("/{account_id}/grants", status_code=status.HTTP_201_CREATED, responses=CHANGE)
async def give_account_grant(
    account_id: UUID, body: GiveGrantBody, admin: Support, limits: Limits, db: Db, wallet: Wallet
) -> GivenGrantReply:
    """Give credits or money with a priority and an expiry. A grant pays no debt. Idempotent by key."""
    new = body.grant()
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    if new.money:
        require_small_money(new.amount, user["currency"], admin, limits)
    else:
        require_small(new.amount, admin, limits)
    await wallet.require_finished_upgrade()
    async with db.transaction() as tx, counted(tx, admin, limits):
        grant = await wallet.give_grant_in(
            tx, account_id, new, actor=admin.caller.actor, now=admin.now, idempotency_key=body.idempotency_key
        )
        if not grant.replayed:
            facts = {name: getattr(grant, name) for name in ("grant_id", "category", "priority", "expires_at")}
            await admin.record(
                tx,
                "account.give_grant",
                "account",
                account_id,
                environment=user["environment"],
                after=_amount(grant, grant.amount) | facts,
                reason=body.reason,
            )
    return GivenGrantReply(grant=AccountGrant.of(grant, admin.now), replayed=grant.replayed)


@router.post("/{account_id}/grants/{grant_id}/end", responses=CHANGE)
async def end_account_grant(
    account_id: UUID, grant_id: UUID, body: ReasonBody, admin: Support, limits: Limits, db: Db, wallet: Wallet
) -> EndedGrantReply:
    """End a grant: its rest is lost. A grant that is spent, expired or ended stays as it is."""
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    await wallet.require_finished_upgrade()
    async with db.transaction() as tx, counted(tx, admin, limits):
        grant, lost = await wallet.end_grant_in(
            tx, user["environment"], grant_id, actor=admin.caller.actor, now=admin.now, of_account=account_id
        )
        if grant.unit == CREDIT:
            require_small(lost, admin, limits)
        else:
            require_small_money(lost, grant.unit, admin, limits)
        if lost > 0:
            await admin.record(
                tx,
                "account.end_grant",
                "account",
                account_id,
                environment=user["environment"],
                before=_amount(grant, lost),
                after=_amount(grant, 0) | {"grant_id": grant_id},
                reason=body.reason,
            )
    return EndedGrantReply.ended(grant, lost, admin.now)


def _amount(grant: Grant, amount: int) -> dict[str, Any]:
    """Return an amount for the audit log, in the form that the limits of the role `support` count."""
    if grant.unit == CREDIT:
        return {"credits": amount}
    return {"money": decimal_text(amount), "currency": grant.unit}
