"""Account routes: create, read, find by user."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response, status

from app.accounts.dependencies import Accounts, QueryUser
from app.accounts.directory import Opening
from app.accounts.schemas import AccountBody, AccountReply, OAuthProvider, identity_of
from app.auth.api_keys.key_route import KeyRoute
from app.auth.caller import Permission
from app.auth.dependencies import Reader, Writer
from app.clock import Now
from app.http.schemas import ERRORS, ErrorReply, Key255
from app.ledger.pools import credits_of_grant

router = APIRouter(prefix="/v1/billing/accounts", tags=["billing"], responses=ERRORS, route_class=KeyRoute)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": AccountReply, "description": "The account existed"}},
)
async def create_account(
    body: AccountBody, caller: Writer, accounts: Accounts, now: Now, response: Response
) -> AccountReply:
    """Create the user's account. An existing account is returned; only its profile is updated."""
    identity, initial_minor = body.identity(caller), body.initial_balance_minor or 0
    if Permission.CREDIT not in caller.permissions and initial_minor > 0:
        if await accounts.directory.find(identity) is None:
            caller.require(Permission.CREDIT)  # an agent's key must not mint
        initial_minor = 0  # also if the account is erased right now, so that this request creates a new one
    opening = Opening(credits_of_grant(initial_minor), body.currency, body.plan_name)
    account_id, created = await accounts.get_or_create_account(
        identity, body.profile(caller), opening, caller.actor, now
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return AccountReply.of(await accounts.account(caller.environment, account_id, now))


@router.get("/by-user", responses={404: {"model": ErrorReply}})
async def get_account_by_user(user: QueryUser, caller: Reader, accounts: Accounts, now: Now) -> AccountReply:
    """Return the account of the user in the query, by `user_id` or by the identity. Creates none."""
    account_id = await accounts.find_account_id(user.identity(caller))
    return AccountReply.of(await accounts.account(caller.environment, account_id, now))


@router.get("/{account_id}", responses={404: {"model": ErrorReply}})
async def get_account(account_id: UUID, caller: Reader, accounts: Accounts, now: Now) -> AccountReply:
    return AccountReply.of(await accounts.account(caller.environment, account_id, now))


@router.get("/{oauth_provider}/{external_id:path}", responses={404: {"model": ErrorReply}})
async def get_account_of_user(
    oauth_provider: Annotated[OAuthProvider, Path()],
    external_id: Annotated[Key255, Path()],
    caller: Reader,
    accounts: Accounts,
    now: Now,
) -> AccountReply:
    account_id = await accounts.find_account_id(identity_of(caller, oauth_provider, external_id))
    return AccountReply.of(await accounts.account(caller.environment, account_id, now))
