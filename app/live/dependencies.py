"""FastAPI dependencies of the event streams."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from fastapi.security import APIKeyQuery

from app.accounts.directory import Profile
from app.accounts.schemas import identity_of
from app.auth.authenticator import Authenticator
from app.auth.dependencies import UserToken, sent_token
from app.auth.errors import UserTokenRequired
from app.auth.guarded_route import once
from app.auth.id_tokens.revocations import IssuedToken
from app.clock import Now
from app.errors import InvalidRequest
from app.http.schemas import MAX_INT64
from app.live.errors import InvalidTicket
from app.live.tickets import Page, Tickets

MAX_DIGITS = len(str(MAX_INT64))
TICKET = APIKeyQuery(
    name="ticket",
    scheme_name="Ticket",
    description="A ticket of `POST /v1/accounts/me/tickets`, instead of a token. It works once.",
    auto_error=False,
)
_ADMITTED = "ciris_billing.admitted"
LAST_EVENT_ID = "The number of the last entry that the client has. Only later ones follow."


@dataclass(frozen=True, slots=True)
class Viewer:
    """The end user who calls: the account, and the token by which."""

    account_id: UUID
    token: IssuedToken


async def _viewer_by_token(request: Request, now: datetime) -> Viewer:
    auth: Authenticator = request.app.state.auth
    auth.admit(request)
    text = await sent_token(request)
    if text is None:
        raise UserTokenRequired
    claims = await auth.claims_of_token(text, now)
    caller = auth.caller_of(claims)
    profile = Profile(customer_email=claims.email, display_name=claims.display_name)
    directory = request.app.state.accounts.directory
    account_id = await directory.resolve(identity_of(caller, None, None), profile, caller.actor, now)
    return Viewer(account_id, IssuedToken.of(claims))


class RequireViewer:
    """Requires an end user's token. Creates a missing account, as the user's other reads do."""

    async def __call__(self, request: Request, token: UserToken, now: Now) -> Viewer:
        return await self.authenticate(request, now)

    async def authenticate(self, request: Request, now: datetime) -> Viewer:
        return await once(request, lambda: _viewer_by_token(request, now))


class RequireViewerOrTicket(RequireViewer):
    """Requires an end user's token, or a ticket in the query, which takes precedence."""

    async def __call__(  # type: ignore[override]  # more than the token
        self,
        request: Request,
        token: UserToken,
        ticket: Annotated[str | None, Depends(TICKET)],
        now: Now,
    ) -> Viewer:
        return await self.authenticate(request, now)

    async def authenticate(self, request: Request, now: datetime) -> Viewer:
        tickets = request.query_params.getlist("ticket")
        if not tickets:
            return await super().authenticate(request, now)
        # A ticket works once, and a request checks its caller twice.
        known: Viewer | None = request.scope.get(_ADMITTED)
        if known is None:
            known = request.scope[_ADMITTED] = await self._redeem(request, tickets, now)
        return known

    async def _redeem(self, request: Request, tickets: list[str], now: datetime) -> Viewer:
        auth: Authenticator = request.app.state.auth
        auth.admit(request)
        if len(tickets) > 1:
            raise InvalidTicket
        service: Tickets = request.app.state.tickets
        admission = await service.redeem(tickets[0], Page.of(request), now)
        if await auth.continuing.refused([admission.token], now):
            raise InvalidTicket
        return Viewer(admission.account_id, admission.token)


async def last_entry(
    last_event_id: Annotated[str | None, Header(description=LAST_EVENT_ID)] = None,
    after: Annotated[
        str | None,
        Query(
            alias="last_event_id", description=f"{LAST_EVENT_ID} For a first connection that cannot send the header."
        ),
    ] = None,
) -> int | None:
    """Return the client's position. The header is newer: browsers repeat the query of the first connection."""
    name, text = ("Last-Event-ID", last_event_id) if last_event_id else ("last_event_id", after)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS) or int(text) > MAX_INT64:
        raise InvalidRequest(f"{name} must be the id of an event: a number of at most 64 bits", field=name)
    return int(text)


LastEntry = Annotated[int | None, Depends(last_entry)]
UserViewer = Annotated[Viewer, Depends(RequireViewer())]
UserOrTicketViewer = Annotated[Viewer, Depends(RequireViewerOrTicket())]
