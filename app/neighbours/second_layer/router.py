"""`/api/billing`, wire-compatible with SecondLayer: balance, history, limits, and the question before work."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.caller import Caller, Permission
from app.auth.dependencies import EndUser, RequireKeyOrUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import is_person
from app.auth.spelling import canonical_uuid
from app.clock import Now
from app.configuration.sections import DISPLAY_RATES, DisplayRates
from app.http.schemas import NAMED_ERRORS, NamedErrorReply, Text255
from app.ledger.errors import AccountClosed, AccountNotFound, AccountSuspended
from app.ledger.limits import Spending, window_start
from app.limits.dependencies import Limits
from app.limits.service import NewLimit
from app.metering.report_queries import sum_account
from app.neighbours.movements import list_described
from app.neighbours.paging import Page, page_up_to
from app.neighbours.second_layer.errors import InsufficientBalance, InsufficientKeyCredits, TopUpRefused
from app.neighbours.second_layer.limits import own_limits, refused
from app.neighbours.second_layer.schemas import (
    BillingBalanceReply,
    BillingHistoryReply,
    BillingRow,
    CheckBody,
    CheckReply,
    Conversion,
    Pagination,
    SettingsBody,
    SettingsReply,
    nanos_of,
    reasons_of,
)

MAX_ROWS = 500
TOPUP_PAGE = "/billing"
Asker = Annotated[Caller, Depends(RequireKeyOrUser(Permission.USAGE_READ, Permission.USAGE_WRITE))]
"""An end user, or a key that may check and quote."""
router = APIRouter(prefix="/api/billing", tags=["SecondLayer"], responses=NAMED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": NamedErrorReply}}
REFUSALS: dict[int | str, dict[str, Any]] = {402: {"model": NamedErrorReply}}


@router.get("/balance", responses=NOT_FOUND)
async def get_billing_balance(
    caller: EndUser, request: Request, accounts: Accounts, limits: Limits, now: Now
) -> BillingBalanceReply:
    """Return the balance of the user who calls, what was spent, and the limits."""
    identity = identity_of(caller, None, None)
    account_id = await accounts.find_account_id(identity)
    state = await accounts.state(account_id)
    shown = Conversion.of(state["currency"], await _rates(request))
    day, month = window_start("day", now, limits.zone), window_start("month", now, limits.zone)
    sums = await sum_account(request.app.state.db, account_id, day, month)
    spendable = await accounts.spendable_money(state, now)
    own = await own_limits(limits, accounts, identity, state, now)
    return BillingBalanceReply.of(canonical_uuid(identity.external_id), state, spendable, sums, own, shown)


@router.put("/settings", responses=NOT_FOUND)
async def set_billing_limits(
    body: SettingsBody, caller: EndUser, accounts: Accounts, limits: Limits, now: Now
) -> SettingsReply:
    """Set the own limits of a day and a month, at most the operator's. An absent one stays.

    A higher one than before needs a person: 403 `person_required`, as for `/v1/accounts/me/limits`.
    """
    identity = identity_of(caller, None, None)
    state = await accounts.state(await accounts.find_account_id(identity))
    Conversion.of(state["currency"], DisplayRates(rates=[]))
    await own_limits(limits, accounts, identity, state, now)
    new = [NewLimit.of_money(window, nanos) for window, nanos in body.amounts().items()]
    await limits.put_all(state["account_id"], new, "user", now, may_raise=is_person(caller, now), by=caller)
    return SettingsReply(message="Billing settings updated")


@router.post("/check", responses=REFUSALS)
async def check_estimate(
    body: CheckBody, request: Request, caller: Asker, accounts: Accounts, limits: Limits, now: Now
) -> CheckReply:
    """Ask before work whether the user's money and limits cover an estimate: first the money, then the day, the month.

    402 `INSUFFICIENT_BALANCE`; 429 `DAILY_LIMIT_EXCEEDED` or `MONTHLY_LIMIT_EXCEEDED` with `limits`. With an API key:
    402 `INSUFFICIENT_CREDITS`; 429 `RATE_LIMIT_EXCEEDED` for a limit of requests. Creates a missing account.
    """
    identity = body.identity(caller)
    account_id = await accounts.directory.resolve(identity, body.profile(caller), caller.actor, now)
    state = await accounts.state(account_id)
    if state["status"] == "suspended":
        raise AccountSuspended(state["status_reason"])
    if state["status"] == "closed":
        raise AccountClosed
    shown = Conversion.of(state["currency"], DisplayRates(rates=[]))
    required = nanos_of(body.estimated_cost_usd)
    spendable = await accounts.spendable_money(state, now)
    is_key = caller.user is None
    if required > spendable and state["billing_enabled"]:
        if is_key:
            raise InsufficientKeyCredits(shown.usd(spendable), shown.usd(required))
        url = f"{request.app.state.settings.base_url}{TOPUP_PAGE}"
        raise InsufficientBalance(shown.usd(spendable), shown.usd(required), shown.usd(required - spendable), url)
    own = await own_limits(limits, accounts, identity, state, now)
    spending = Spending(state["currency"], required, key=caller.actor.key_id, tool=body.tool)
    if state["billing_enabled"] and (refusal := await accounts.refusal(account_id, spending, now)) is not None:
        raise refused(refusal, own, shown.usd)
    return CheckReply(balance_usd=shown.usd(spendable), required_usd=shown.usd(required))


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
