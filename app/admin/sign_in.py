"""`/admin/oauth`: sign-in and sign-out."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Cookie, Query, Request, Response, status
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from app.admin.admins.schemas import WhoAmI
from app.admin.audit.log import Admin
from app.admin.dependencies import SESSION_COOKIE, Db, Sessions, Viewer, cookies_are_secure, set_session_cookie
from app.auth.admins.sign_in import CALLBACK_PATH, DEFAULT_RETURN_PATH, FLOW_FOR, MAX_RETURN_CHARS, SignIn
from app.auth.authenticator import Authenticator
from app.clock import Now
from app.errors import AppError
from app.http.schemas import ERRORS
from app.settings import Settings

FLOW_COOKIE = "ciris_billing_sign_in"


class PersonsRoute(APIRoute):
    """Shows errors on the sign-in page instead of as JSON, if a browser's address bar made the request.

    The page gets the error's code and the request's id only. Its texts are its own, because anyone can craft a URL.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except AppError as error:
                if "text/html" not in request.headers.get("Accept", ""):
                    raise
                request_id = structlog.contextvars.get_contextvars().get("request_id", "")
                query = {"refused": error.code, "request": request_id}
                answer = RedirectResponse(f"{DEFAULT_RETURN_PATH}?{urlencode(query)}", status.HTTP_303_SEE_OTHER)
                _no_store(answer)
                return answer

        return handled


router = APIRouter(prefix="/admin/oauth", tags=["admin: sign-in"], responses=ERRORS, route_class=PersonsRoute)


def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


@router.get("/login", status_code=status.HTTP_302_FOUND, response_class=RedirectResponse, response_model=None)
async def login(
    request: Request, now: Now, return_to: Annotated[str | None, Query(max_length=MAX_RETURN_CHARS)] = None
) -> RedirectResponse:
    """Redirect to the provider's sign-in, and afterwards to `return_to`, a path of this server."""
    auth: Authenticator = request.app.state.auth
    auth.admit(request)
    sign_in: SignIn = request.app.state.sign_in
    settings: Settings = request.app.state.settings
    url, cookie = await sign_in.begin(return_to, now)
    answer = RedirectResponse(url, status.HTTP_302_FOUND)
    answer.set_cookie(
        FLOW_COOKIE,
        cookie,
        max_age=int(FLOW_FOR.total_seconds()),
        path=CALLBACK_PATH,
        httponly=True,
        samesite="lax",  # with strict, browsers do not send it after the provider's redirect
        secure=cookies_are_secure(settings),
    )
    _no_store(answer)
    return answer


@router.get("/callback", status_code=status.HTTP_302_FOUND, response_class=RedirectResponse, response_model=None)
async def callback(
    request: Request,
    db: Db,
    sessions: Sessions,
    now: Now,
    flow: Annotated[str | None, Cookie(alias=FLOW_COOKIE)] = None,
) -> RedirectResponse:
    """Complete the provider's redirect: open the session and set its cookie."""
    auth: Authenticator = request.app.state.auth
    address = auth.admit(request)
    sign_in: SignIn = request.app.state.sign_in
    signed_in = await sign_in.end(request.query_params, flow, now)
    async with db.transaction() as tx:
        caller = await sessions.open(
            tx,
            signed_in.session_id,
            signed_in.email,
            address=str(address or "unknown"),
            user_agent=request.headers.get("User-Agent", ""),
            now=now,
        )
        await Admin(caller, str(address or "unknown"), now).record(tx, "session.open", "session", caller.session_id)
    answer = RedirectResponse(signed_in.return_to, status.HTTP_302_FOUND)
    set_session_cookie(answer, sessions.token_of(caller, now), request.app.state.settings)
    answer.delete_cookie(FLOW_COOKIE, path=CALLBACK_PATH)
    _no_store(answer)
    return answer


@router.get("/user", summary="Get the signed-in admin")
async def who_am_i(request: Request, admin: Viewer, sessions: Sessions, response: Response) -> WhoAmI:
    """Return the signed-in admin, and the token that the browser's writes need."""
    _no_store(response)
    caller = admin.caller
    settings: Settings = request.app.state.settings
    limits = {"viewer": 0, "support": settings.admin_support_credit_limit, "admin": None}
    money_limits = {"viewer": 0, "support": settings.admin_support_money_limit, "admin": None}
    return WhoAmI(
        admin_id=caller.admin_id,
        email=caller.email,
        role=caller.role,
        expires_at=caller.expires_at,
        credit_limit=limits[caller.role],
        money_limit=money_limits[caller.role],
        csrf_token=sessions.csrf_token(caller.session_id),
    )


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(admin: Viewer, db: Db, sessions: Sessions, response: Response) -> None:
    """End this session everywhere."""
    caller = admin.caller
    async with db.transaction() as tx:
        await sessions.revoke(tx, caller.admin_id, admin.now, caller.session_id)
        await admin.record(tx, "session.close", "session", caller.session_id)
    response.delete_cookie(SESSION_COOKIE, path="/admin")
