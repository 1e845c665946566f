"""`/v1/accounts` and `/v1/credits` for end users, wire-compatible with Z-Billing."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from app.accounts.dependencies import Accounts
from app.accounts.directory import Opening, Profile
from app.accounts.erasure import delete_own_account
from app.accounts.errors import AccountExists
from app.accounts.schemas import identity_of
from app.auth.caller import Caller
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import require_known_person
from app.auth.spelling import canonical_uuid
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.neighbours.movements import list_described
from app.neighbours.paging import Page, page_up_to
from app.neighbours.z_billing.schemas import (
    CreditsBalanceReply,
    CreditsTransactionsReply,
    DeletedReply,
    NewAccountBody,
    OwnAccountReply,
)

MAX_TRANSACTIONS = 100
router = APIRouter(prefix="/v1", tags=["own account"], responses=CODED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": CodedErrorReply}}


@router.post("/accounts", responses=CONFLICT)
async def create_own_account(
    caller: EndUser, accounts: Accounts, now: Now, body: NewAccountBody | None = None
) -> OwnAccountReply:
    """Create the account of the user who calls. 409 `conflict` if there is one."""
    identity = identity_of(caller, None, None)
    account_id, created = await accounts.directory.find_or_create(
        identity, caller.actor, now, Opening(), _profile(caller)
    )
    if not created:
        raise AccountExists
    state = await accounts.state(account_id)
    return OwnAccountReply.of(canonical_uuid(identity.external_id), state, await accounts.spendable_money(state, now))


@router.get("/accounts/me")
async def get_own_account(caller: EndUser, accounts: Accounts, now: Now) -> OwnAccountReply:
    """Return the account of the user who calls. Creates a missing one."""
    identity = identity_of(caller, None, None)
    account_id = await accounts.directory.resolve(identity, _profile(caller), caller.actor, now)
    state = await accounts.state(account_id)
    return OwnAccountReply.of(canonical_uuid(identity.external_id), state, await accounts.spendable_money(state, now))


@router.delete("/accounts/me", responses={**NOT_FOUND, **CONFLICT})
async def remove_own_account(caller: EndUser, request: Request, accounts: Accounts, now: Now) -> DeletedReply:
    """Close the account permanently and erase the user's data. The balance is lost; a debt answers 409.

    A later account of the same user gets nothing that is given once, such as free uses. 403 `person_required` for a
    token that an agent may have, if the issuer has `interactive_audiences`.
    """
    require_known_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    async with request.app.state.db.transaction() as tx:
        await delete_own_account(tx, account_id, accounts.digests, now)
    return DeletedReply(deleted=True)


@router.get("/credits/balance", responses=NOT_FOUND)
async def get_credits_balance(caller: EndUser, accounts: Accounts, now: Now) -> CreditsBalanceReply:
    """Return what the user who calls can spend on metered usage: money and live grants of money."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    state = await accounts.state(account_id)
    return CreditsBalanceReply.of(state, await accounts.spendable_money(state, now))


@router.get("/credits/transactions", responses=NOT_FOUND)
async def list_credits_transactions(
    caller: EndUser,
    request: Request,
    accounts: Accounts,
    page: Annotated[Page, Depends(page_up_to(MAX_TRANSACTIONS))],
) -> CreditsTransactionsReply:
    """List the movements of the money of the user who calls, newest first."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    found = await list_described(request.app.state.db, account_id, limit=page.limit + 1, offset=page.offset)
    return CreditsTransactionsReply.of(found, page.limit)


def _profile(caller: Caller) -> Profile:
    """Return what the token says about the user."""
    assert caller.user is not None, "EndUser"
    return Profile(customer_email=caller.user.email, display_name=caller.user.display_name)
