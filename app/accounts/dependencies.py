"""FastAPI dependencies of the account routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from app.accounts.directory import Identity
from app.accounts.schemas import USER_ID, OAuthProvider, user_identity_of
from app.accounts.service import AccountService
from app.auth.caller import Caller
from app.http.schemas import Key255


@dataclass(frozen=True, slots=True)
class NamedUser:
    """The user in a request's query."""

    oauth_provider: str | None
    external_id: str | None
    user_id: str | None

    def identity(self, caller: Caller) -> Identity:
        """Return the identity as `UserFields.identity` does."""
        return user_identity_of(caller, self.oauth_provider, self.external_id, self.user_id)


async def named_user(
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: Annotated[Key255 | None, Query(description=USER_ID)] = None,
) -> NamedUser:
    return NamedUser(oauth_provider, external_id, user_id)


QueryUser = Annotated[NamedUser, Depends(named_user)]
"""The user of a GET route of usage and money, by identity or by `user_id`."""


async def account_service(request: Request) -> AccountService:
    service: AccountService = request.app.state.accounts
    return service


Accounts = Annotated[AccountService, Depends(account_service)]
"""Not for the busiest routes, which use only the values that KeyRoute provides."""
