"""Who may call a route: `Annotated[Caller, Depends(require(Permission.WRITE))]`."""

from datetime import datetime
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.auth.caller import Caller, Permission
from app.auth.errors import Unauthorized
from app.auth.keys import Address
from app.auth.service import Authenticator
from app.clock import Now

USER_TOKEN = HTTPBearer(
    scheme_name="UserToken",
    bearerFormat="JWT",
    description="An end user's ID token. Ignored where an API key is sent as well.",
    auto_error=False,
)
UserToken = Annotated[HTTPAuthorizationCredentials | None, Depends(USER_TOKEN)]


class _RequireKey(APIKeyHeader):
    """The caller by an API key. A security scheme itself: one dependency less to solve with each request."""

    def __init__(self, permission: Permission) -> None:
        super().__init__(
            name="X-API-Key", scheme_name="ApiKey", description="`cbk_live_…` or `cbk_test_…`", auto_error=False
        )
        self._permission = permission

    async def __call__(self, request: Request, now: Now) -> Caller:  # type: ignore[override]  # more than the text
        auth: Authenticator = request.app.state.auth
        address = auth.admit(request)
        key = request.headers.get("X-API-Key")
        if not key:
            raise Unauthorized(user_token_accepted=False)
        return await self._caller_of(request, key, address, now)

    async def _caller_of(self, request: Request, key: str, address: Address | None, now: datetime) -> Caller:
        auth: Authenticator = request.app.state.auth
        caller = await auth.caller_of_key(request, key, address, now)
        caller.require(self._permission)
        return caller


class _RequireKeyOrUser(_RequireKey):
    """The caller by an API key or by an end user's token."""

    async def __call__(self, request: Request, token: UserToken, now: Now) -> Caller:  # type: ignore[override]  # as above
        auth: Authenticator = request.app.state.auth
        address = auth.admit(request)
        key = request.headers.get("X-API-Key")
        if key:
            return await self._caller_of(request, key, address, now)
        if token is not None:
            return await auth.caller_of_token(token.credentials, now)
        raise Unauthorized(user_token_accepted=True)


@cache
def require(permission: Permission, *, or_user: bool = False) -> _RequireKey:
    """A dependency: the caller, by an API key with `permission` or, with `or_user`, by an end user's token.

    An API key wins over a token, and a wrong key is not made up for by a right token: what a request may do is then
    plain from its headers. Raises Unauthorized, InvalidApiKey, InvalidToken, MissingPermission, AddressNotAllowed,
    ClientCertificateRequired, RateLimited, TooManyAttempts, Busy, IssuerUnavailable.
    """
    return _RequireKeyOrUser(permission) if or_user else _RequireKey(permission)
