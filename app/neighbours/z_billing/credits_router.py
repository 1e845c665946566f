"""`POST /v1/credits/add`: money given by hand, for keys with `money:credit` (wire-compatible with Z-Billing)."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.accounts.dependencies import Accounts
from app.auth.dependencies import MoneyMinter
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.errors import InvalidRequest
from app.http.idempotency import IN_OPENAPI, REPLAYED, REPLAYED_IN_OPENAPI, idempotency_key
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.ledger.entries import Kind
from app.ledger.errors import BalanceLimitExceeded
from app.ledger.money import MAX_NANOS, nanos_of_minor
from app.neighbours.z_billing.errors import AmountNotPositive
from app.neighbours.z_billing.schemas import AddCreditsBody, AddedCreditsReply
from app.wallet.dependencies import Wallet

router = APIRouter(prefix="/v1/credits", tags=["usage"], responses=CODED_ERRORS, route_class=GuardedRoute)
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"headers": REPLAYED_IN_OPENAPI},
    404: {"model": CodedErrorReply},
}


@router.post("/add", openapi_extra=IN_OPENAPI, responses=ANSWERS)
async def add_credits(
    body: AddCreditsBody,
    request: Request,
    response: Response,
    caller: MoneyMinter,
    accounts: Accounts,
    wallet: Wallet,
    now: Now,
) -> AddedCreditsReply:
    """Give money to an existing account. It never expires, and pays no debt.

    A repeated idempotency key adds nothing and repeats the answer. The key may be in the header `X-Admin-Key`.
    """
    if body.amount_cents <= 0:
        raise AmountNotPositive("amount_cents")
    account_id = await accounts.find_account_id(body.identity(caller))
    nanos = nanos_of_minor(body.amount_cents, (await accounts.state(account_id))["currency"])
    try:
        if nanos > MAX_NANOS:
            raise BalanceLimitExceeded
        credit = await wallet.credit_money(
            account_id,
            nanos,
            Kind.BONUS,
            currency=None,
            actor=caller.actor,
            now=now,
            description=body.reason,
            idempotency_key=idempotency_key(body.idempotency_key, request),
        )
    except BalanceLimitExceeded as error:
        raise InvalidRequest(
            "amount_cents is too large: the balance would exceed 64 bits", field="amount_cents"
        ) from error
    if credit.replayed:
        response.headers.update(REPLAYED)
    return AddedCreditsReply.of(credit)
