"""Signed statements of an account's balances, and the public keys that verify them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.dependencies import EndUser, Reader
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.http.schemas import CODED_ERRORS, ERRORS, MAX_INT64, CodedErrorReply, ErrorReply
from app.receipts.schemas import PublicKeysReply, StatementReply
from app.receipts.service import StatementService

router = APIRouter(tags=["receipts"], route_class=GuardedRoute)
EntryNo = Annotated[
    int | None,
    Query(ge=0, le=MAX_INT64, description="The number of a ledger entry of the account. Default: its last entry."),
]
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
CODED_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
KEYS_MAX_AGE_S = 3600
"""The time that clients and proxies may keep the keys. A new key is published before it signs."""


# Its path is also one of `/v1/billing/accounts/{oauth_provider}/{external_id}`, which therefore comes later.
@router.get("/v1/billing/accounts/{account_id:uuid}/statement", responses={**ERRORS, **NOT_FOUND})
async def get_statement(
    account_id: UUID, caller: Reader, request: Request, response: Response, now: Now, entry_no: EntryNo = None
) -> StatementReply:
    """Return a signed statement of the account's balances after a ledger entry.

    404 `entry_not_found`: the account has fewer entries. 503 `statement_not_ready`: the worker is still hashing the
    account's ledger. 503 `signing_not_configured`: this service has no key to sign with.
    """
    service: StatementService = request.app.state.statements
    response.headers["Cache-Control"] = "no-store"
    return StatementReply(statement=await service.statement(caller.environment, account_id, entry_no, now))


@router.get("/v1/accounts/me/statement", responses={**CODED_ERRORS, **CODED_NOT_FOUND})
async def get_own_statement(
    caller: EndUser,
    accounts: Accounts,
    request: Request,
    response: Response,
    now: Now,
    entry_no: EntryNo = None,
) -> StatementReply:
    """Return a signed statement of the balances of the user who calls, after a ledger entry. Creates no account.

    404 `entry_not_found`: the account has fewer entries. 503 `statement_not_ready`: the worker is still hashing the
    account's ledger. 503 `signing_not_configured`: this service has no key to sign with.
    """
    service: StatementService = request.app.state.statements
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    response.headers["Cache-Control"] = "no-store"
    return StatementReply(statement=await service.statement(caller.environment, account_id, entry_no, now))


@router.get("/.well-known/ciris-billing-keys.json")
async def get_statement_keys(request: Request, response: Response) -> PublicKeysReply:
    """Return the public keys of statements: the one that signs, those that will, and retired ones."""
    service: StatementService = request.app.state.statements
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    return PublicKeysReply.model_validate(service.signer.published)
