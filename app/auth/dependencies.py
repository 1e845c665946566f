"""Who may call a route: `Annotated[Caller, Depends(require(Permission.WRITE))]`."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.auth.caller import Caller, Permission
from app.auth.errors import Unauthorized
from app.auth.service import Authenticator
from app.clock import Now

API_KEY = APIKeyHeader(
    name="X-API-Key", scheme_name="ApiKey", description="`cbk_live_…` or `cbk_test_…`", auto_error=False
)
USER_TOKEN = HTTPBearer(
    scheme_name="UserToken",
    bearerFormat="JWT",
    description="An end user's ID token. Ignored where an API key is sent as well.",
    auto_error=False,
)
ApiKeyText = Annotated[str | None, Depends(API_KEY)]
UserToken = Annotated[HTTPAuthorizationCredentials | None, Depends(USER_TOKEN)]


@cache
def require(permission: Permission, *, or_user: bool = False) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, by an API key with `permission` or, with `or_user`, by an end user's token.

    An API key wins over a token, and a wrong key is not made up for by a right token: what a request may do is then
    plain from its headers. Raises Unauthorized, InvalidApiKey, InvalidToken, MissingPermission, AddressNotAllowed,
    RateLimited, TooManyAttempts, Busy, IssuerUnavailable.
    """

    async def api_key_only(request: Request, key: ApiKeyText, now: Now) -> Caller:
        auth: Authenticator = request.app.state.auth
        address = auth.admit(request)
        if not key:
            raise Unauthorized(user_token_accepted=False)
        caller = await auth.caller_of_key(key, address, now)
        caller.require(permission)
        return caller

    async def api_key_or_user(request: Request, key: ApiKeyText, token: UserToken, now: Now) -> Caller:
        auth: Authenticator = request.app.state.auth
        address = auth.admit(request)
        if key:
            caller = await auth.caller_of_key(key, address, now)
            caller.require(permission)
            return caller
        if token is not None:
            return await auth.caller_of_token(token.credentials, now)
        raise Unauthorized(user_token_accepted=True)

    return api_key_or_user if or_user else api_key_only
