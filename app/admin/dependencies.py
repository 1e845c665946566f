"""Authorization of back-office routes: `Annotated[Admin, Depends(require_admin("support"))]`."""

from datetime import datetime
from functools import cache
from typing import Annotated

import structlog
from fastapi import Depends, Request, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from app.admin.audit.log import Admin
from app.auth.admins.admins import Role
from app.auth.admins.sessions import AdminCaller, AdminSessions
from app.auth.authenticator import Authenticator
from app.auth.errors import AdminUnauthorized, CsrfFailed
from app.auth.guarded_route import GuardedRoute, Handler, once
from app.clock import Now
from app.db import Database
from app.db.replica import ReadReplica, Source
from app.settings import Mode, Settings

SESSION_COOKIE = "ciris_billing_admin"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE = APIKeyCookie(
    name=SESSION_COOKIE,
    scheme_name="AdminCookie",
    description="Set by sign-in. Writes also need `X-CSRF-Token`, with the value from `/admin/oauth/user`.",
    auto_error=False,
)
BEARER = HTTPBearer(
    scheme_name="AdminToken",
    bearerFormat="JWT",
    description="A session's token, for scripts: `ciris-billing admins token`.",
    auto_error=False,
)
log = structlog.get_logger()
Cookie = Annotated[str | None, Depends(COOKIE)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


async def database(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


async def admin_sessions(request: Request) -> AdminSessions:
    sessions: AdminSessions = request.app.state.admin_sessions
    return sessions


async def report_source(request: Request) -> Source:
    """Return the request's database for reports, chosen once; the retry of `ReportRoute` has set it already."""
    replica: ReadReplica = request.app.state.replica
    if not hasattr(request.state, "report_source"):
        request.state.report_source = await replica.source()
    source: Source = request.state.report_source
    return source


class ReportRoute(GuardedRoute):
    """A route that repeats a request on the primary if its reports failed on the replica."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                source: Source | None = getattr(request.state, "report_source", None)
                if source is None or not source.blames(error):
                    raise
                log.warning("replica_read_failed", error=type(error).__name__)
                request.state.report_source = request.app.state.replica.primary_source
                return await handle(request)

        return handled


Db = Annotated[Database, Depends(database)]
ReportDb = Annotated[Source, Depends(report_source)]
"""For lists and reports. Must follow the admin among a route's arguments. Needs `ReportRoute`."""
Sessions = Annotated[AdminSessions, Depends(admin_sessions)]


class RequireAdmin:
    """Requires a signed-in admin with `role` or a higher one.

    A bearer token takes precedence over the cookie. A write by cookie needs the session's X-CSRF-Token. A cookie in use
    is renewed. Raise AdminUnauthorized, AdminForbidden, CsrfFailed or RateLimited.
    """

    def __init__(self, role: Role) -> None:
        self._role = role

    async def __call__(self, request: Request, response: Response, cookie: Cookie, bearer: Bearer, now: Now) -> Admin:
        admin, renewed_cookie = await self.authenticate(request, now)
        if renewed_cookie is not None:
            set_session_cookie(response, renewed_cookie, request.app.state.settings)
        return admin

    async def authenticate(self, request: Request, now: datetime) -> tuple[Admin, str | None]:
        """Return the admin, and the cookie's new value if it is renewed."""
        return await once(request, lambda: self._admin(request, now))

    async def _admin(self, request: Request, now: datetime) -> tuple[Admin, str | None]:
        auth: Authenticator = request.app.state.auth
        sessions: AdminSessions = request.app.state.admin_sessions
        address = auth.admit(request)
        bearer = await BEARER(request)
        token = await COOKIE(request) if bearer is None else bearer.credentials
        if not token:
            raise AdminUnauthorized
        caller, renewed_cookie = await sessions.caller_of(token, now), None
        structlog.contextvars.bind_contextvars(admin_id=str(caller.admin_id))
        if bearer is None:
            if request.method not in SAFE_METHODS:
                _check_csrf(request, sessions, caller)
            renewed = await sessions.renewed(caller, now)
            if renewed is not None:
                caller, renewed_cookie = renewed, sessions.token_of(renewed, now)
        caller.require(self._role)
        return Admin(caller, str(address or "unknown"), now), renewed_cookie


@cache
def require_admin(role: Role) -> RequireAdmin:
    return RequireAdmin(role)


def _check_csrf(request: Request, sessions: AdminSessions, caller: AdminCaller) -> None:
    if not sessions.is_csrf_token(caller.session_id, request.headers.get("X-CSRF-Token", "")):
        raise CsrfFailed


def set_session_cookie(response: Response, token: str, settings: Settings) -> None:
    """Set the cookie until the browser closes; the session itself has its own expiry."""
    response.set_cookie(
        SESSION_COOKIE, token, path="/admin", httponly=True, samesite="lax", secure=cookies_are_secure(settings)
    )


def cookies_are_secure(settings: Settings) -> bool:
    """Return whether cookies are marked secure. Such a cookie is never sent over plain HTTP, which a demo uses."""
    return settings.mode is Mode.PRODUCTION or settings.base_url.startswith("https://")


Viewer = Annotated[Admin, Depends(require_admin("viewer"))]
Support = Annotated[Admin, Depends(require_admin("support"))]
Administrator = Annotated[Admin, Depends(require_admin("admin"))]
