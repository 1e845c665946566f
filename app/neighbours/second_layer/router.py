"""`/api/billing` for end users, wire-compatible with SecondLayer: balance and history."""

from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.spelling import canonical_uuid
from app.clock import Now
from app.configuration.sections import DISPLAY_RATES
from app.http.schemas import NAMED_ERRORS, NamedErrorReply, Text255
from app.ledger.errors import AccountNotFound
from app.metering.report_queries import sum_account
from app.neighbours.movements import list_described
from app.neighbours.paging import Page, page_up_to
from app.neighbours.second_layer.errors import TopUpRefused
from app.neighbours.second_layer.schemas import (
    BillingBalanceReply,
    BillingHistoryReply,
    BillingRow,
    Conversion,
    Pagination,
    reasons_of,
)

MAX_ROWS = 500
router = APIRouter(prefix="/api/billing", tags=["SecondLayer"], responses=NAMED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": NamedErrorReply}}


@router.get("/balance", responses=NOT_FOUND)
async def get_billing_balance(caller: EndUser, request: Request, accounts: Accounts, now: Now) -> BillingBalanceReply:
    """Return the balance of the user who calls, what was spent, and the limits."""
    identity = identity_of(caller, None, None)
    account_id = await accounts.find_account_id(identity)
    state = await accounts.state(account_id)
    shown = Conversion.of(state["currency"], await _rates(request))
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sums = await sum_account(request.app.state.db, account_id, day, day.replace(day=1))
    spendable = await accounts.spendable_money(state, now)
    return BillingBalanceReply.of(canonical_uuid(identity.external_id), state, spendable, sums, shown)


@router.get("/history")
async def list_billing_history(
    caller: EndUser,
    request: Request,
    accounts: Accounts,
    page: Annotated[Page, Depends(page_up_to(MAX_ROWS))],
    row_type: Annotated[Text255 | None, Query(alias="type", description="Only rows of this type.")] = None,
) -> BillingHistoryReply:
    """List the movements of the money of the user who calls, newest first. A user without an account has none."""
    identity = identity_of(caller, None, None)
    rows: list[BillingRow] = []
    try:
        account_id = await accounts.find_account_id(identity)
    except AccountNotFound:
        account_id = None
    if account_id is not None:
        shown = Conversion.of((await accounts.state(account_id))["currency"], await _rates(request))
        found = await list_described(
            request.app.state.db,
            account_id,
            limit=page.limit,
            offset=page.offset,
            reasons=None if row_type is None else reasons_of(row_type),
        )
        rows = [BillingRow.of(canonical_uuid(identity.external_id), described, shown) for described in found]
    pagination = Pagination(limit=page.limit, offset=page.offset, count=len(rows))
    return BillingHistoryReply(transactions=rows, pagination=pagination)


@router.post("/topup", status_code=403, response_model=NamedErrorReply)
async def top_up(caller: EndUser) -> None:
    """Refuse: users cannot add money to their own balance. A payment or an admin does."""
    raise TopUpRefused


async def _rates(request: Request) -> Any:
    return (await request.app.state.billing.configuration.current()).document(DISPLAY_RATES)
