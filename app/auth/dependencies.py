"""Authorization of a route: `Annotated[Caller, Depends(require(Permission.WRITE))]`."""

from datetime import datetime
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.auth.authenticator import Authenticator
from app.auth.caller import Caller, Permission
from app.auth.errors import InvalidApiKey, Unauthorized, UserTokenRequired
from app.auth.guarded_route import once
from app.auth.id_tokens.verifier import InvalidToken
from app.clock import Now

USER_TOKEN = HTTPBearer(
    scheme_name="UserToken",
    bearerFormat="JWT",
    description="An end user's ID token. Ignored if an API key is sent as well.",
    auto_error=False,
)
UserToken = Annotated[HTTPAuthorizationCredentials | None, Depends(USER_TOKEN)]
ADMIN_KEY = APIKeyHeader(
    name="X-Admin-Key", scheme_name="AdminKey", description="An API key with `money:credit`.", auto_error=False
)
AdminKey = Annotated[str | None, Depends(ADMIN_KEY)]


KEY_BEGINNING = "cbk_"
MISTAKEN_FOR_KEYS = {
    "Bearer ": ": send it in the header X-API-Key without Bearer",
    "eyJ": ": this is a token, send it in the header Authorization after Bearer",
}
"""Beginnings of wrong values in X-API-Key, and the hint for each."""


def _is_key_in_authorization(request: Request) -> bool:
    return KEY_BEGINNING in request.headers.get("Authorization", "")


class RequireKey(APIKeyHeader):
    """Requires an API key. It is a security scheme itself, which saves FastAPI one dependency per request."""

    key_headers: tuple[str, ...] = ("X-API-Key",)
    """The headers that may contain the key."""

    def __init__(self, permission: Permission, *alternatives: Permission) -> None:
        super().__init__(
            name="X-API-Key", scheme_name="ApiKey", description="`cbk_live_…` or `cbk_test_…`", auto_error=False
        )
        self._permission = permission
        self._alternatives = frozenset(alternatives)

    async def __call__(self, request: Request, now: Now) -> Caller:  # type: ignore[override]  # more than the text
        return await self.authenticate(request, now)

    async def authenticate(self, request: Request, now: datetime) -> Caller:
        return await once(request, lambda: self._caller(request, now))

    async def _caller(self, request: Request, now: datetime) -> Caller:
        return await self.caller_by_key(request, now)

    async def caller_by_key(self, request: Request, now: datetime) -> Caller:
        auth: Authenticator = request.app.state.auth
        address = auth.admit(request)
        key = self._sent_once(request)
        if not key:
            raise Unauthorized(user_token_accepted=False, is_key_elsewhere=_is_key_in_authorization(request))
        for beginning, hint in MISTAKEN_FOR_KEYS.items():
            if key.startswith(beginning):
                raise InvalidApiKey("malformed", hint=hint)
        caller = await auth.caller_of_key(request, key, address, now)
        if not self._alternatives & caller.permissions:
            caller.require(self._permission)
        return caller

    def _sent_once(self, request: Request) -> str | None:
        """Return the key. Reject two of them: a proxy may have checked the other one."""
        keys = [key for name in self.key_headers for key in request.headers.getlist(name)]
        if len(keys) > 1:
            raise InvalidApiKey("sent more than once")
        return keys[0] if keys else None


class RequireKeyOrAdminKey(RequireKey):
    """Requires an API key, which may be in the header X-Admin-Key as well."""

    key_headers = ("X-API-Key", "X-Admin-Key")

    async def __call__(self, request: Request, admin_key: AdminKey, now: Now) -> Caller:  # type: ignore[override]  # as above
        return await self.authenticate(request, now)


class RequireKeyOrUser(RequireKey):
    """Requires an API key or an end user's token."""

    async def __call__(self, request: Request, token: UserToken, now: Now) -> Caller:  # type: ignore[override]  # as above
        return await self.authenticate(request, now)

    async def _caller(self, request: Request, now: datetime) -> Caller:
        if any(request.headers.getlist("X-API-Key")):
            return await self.caller_by_key(request, now)
        caller = await _caller_by_token(request, now)
        if caller is None:
            raise Unauthorized(user_token_accepted=True, is_key_elsewhere=_is_key_in_authorization(request))
        return caller


async def sent_token(request: Request) -> str | None:
    """Return the bearer token of the request; None without one. Raise InvalidToken for one that cannot be right."""
    token = await USER_TOKEN(request)
    if token is None:
        return None
    if len(request.headers.getlist("Authorization")) > 1:
        raise InvalidToken("sent more than once")
    if token.credentials.startswith(KEY_BEGINNING):
        raise InvalidToken("this is an API key, send it in the header X-API-Key")
    return token.credentials


async def _caller_by_token(request: Request, now: datetime) -> Caller | None:
    """Return the end user of the request's token; None without one. Raise InvalidToken or RateLimited."""
    auth: Authenticator = request.app.state.auth
    auth.admit(request)
    token = await sent_token(request)
    return None if token is None else await auth.caller_of_token(token, now)


class RequireUser:
    """Requires an end user's token. API keys are ignored: the routes concern the user who calls."""

    async def __call__(self, request: Request, token: UserToken, now: Now) -> Caller:
        return await self.authenticate(request, now)

    async def authenticate(self, request: Request, now: datetime) -> Caller:
        return await once(request, lambda: self._caller(request, now))

    async def _caller(self, request: Request, now: datetime) -> Caller:
        caller = await _caller_by_token(request, now)
        if caller is None:
            raise UserTokenRequired
        return caller


@cache
def require(permission: Permission, *, or_user: bool = False) -> RequireKey:
    """Return a dependency that yields the caller, by an API key with `permission` or (`or_user`) a user's token.

    An API key takes precedence over a token, and a valid token does not replace a wrong key, so that the headers alone
    decide what a request may do. Raise Unauthorized, InvalidApiKey, InvalidToken, MissingPermission, AddressNotAllowed,
    ClientCertificateRequired, RateLimited, TooManyAttempts, Busy or IssuerUnavailable.
    """
    return RequireKeyOrUser(permission) if or_user else RequireKey(permission)


Reader = Annotated[Caller, Depends(require(Permission.READ))]


ReaderOrUser = Annotated[Caller, Depends(require(Permission.READ, or_user=True))]


Writer = Annotated[Caller, Depends(require(Permission.WRITE))]


WriterOrUser = Annotated[Caller, Depends(require(Permission.WRITE, or_user=True))]


Minter = Annotated[Caller, Depends(require(Permission.CREDIT))]


MoneyMinter = Annotated[Caller, Depends(RequireKeyOrAdminKey(Permission.MONEY_CREDIT))]


LimitsWriter = Annotated[Caller, Depends(require(Permission.LIMITS_WRITE))]


UsageReader = Annotated[Caller, Depends(require(Permission.USAGE_READ))]


UsageWriter = Annotated[Caller, Depends(require(Permission.USAGE_WRITE))]


UsageAsker = Annotated[Caller, Depends(RequireKey(Permission.USAGE_READ, Permission.USAGE_WRITE))]
"""A key that may check and quote: with either of the two permissions."""


EndUser = Annotated[Caller, Depends(RequireUser())]
"""A caller whose `user` is never None."""
