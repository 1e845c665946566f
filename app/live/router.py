"""Event streams of an account: for API keys, and for the user who calls. And the tickets of browsers."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response, status

from app.auth.caller import Permission
from app.auth.dependencies import Reader
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.http.schemas import CODED_ERRORS, ERRORS, ErrorReply
from app.live.dependencies import LastEntry, UserOrTicketViewer, UserViewer
from app.live.schemas import EVENT_SCHEMA, TicketReply
from app.live.stream import EventStream, Watching
from app.live.tickets import Page, Tickets

router = APIRouter(route_class=GuardedRoute)
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events: `snapshot`, then `change`, `balance`, `approval` and `end`. "
        "See docs/live-balance.md.",
        "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
    },
    204: {"description": "The account is closed, and the client has its last event. Browsers then stop."},
}


@router.get(
    "/v1/billing/accounts/{account_id:uuid}/events",
    tags=["billing"],
    status_code=status.HTTP_200_OK,
    response_class=EventStream,
    responses={**ERRORS, **STREAM, 404: {"model": ErrorReply}},
)
async def watch_account(
    account_id: Annotated[UUID, Path()], request: Request, caller: Reader, after: LastEntry
) -> EventStream:
    """Follow the balance of an account: a snapshot, then an event for each ledger entry.

    The id of an event is the entry's number. `Last-Event-ID` resumes after it without a gap. Approvals that agents wait
    for, and decisions about them, are events without an id; each stream begins with the open ones.
    """
    state = request.app.state
    use = state.auth.use_of_key(request, caller, Permission.READ)
    watching = Watching(caller.environment, account_id, use, after)
    return EventStream(state.feeds, state.streams, watching)


@router.get(
    "/v1/accounts/me/events",
    tags=["own account"],
    status_code=status.HTTP_200_OK,
    response_class=EventStream,
    responses={**CODED_ERRORS, **STREAM},
)
async def watch_own_account(request: Request, viewer: UserOrTicketViewer, after: LastEntry) -> EventStream:
    """Follow the balance and the approvals of the user who calls, by a token or a ticket. Creates a missing account.

    Ends when the token expires or is revoked.
    """
    state = request.app.state
    watching = Watching(viewer.token.environment, viewer.account_id, viewer.token, after)
    return EventStream(state.feeds, state.streams, watching)


@router.post(
    "/v1/accounts/me/tickets",
    tags=["own account"],
    status_code=status.HTTP_201_CREATED,
    responses=CODED_ERRORS,
)
async def create_ticket(request: Request, response: Response, viewer: UserViewer, now: Now) -> TicketReply:
    """Get a ticket that opens one event stream from a browser's `EventSource`, within 60 seconds.

    Only a page of the same `Origin` can use it.
    """
    response.headers["Cache-Control"] = "no-store"
    tickets: Tickets = request.app.state.tickets
    text, expires_at = await tickets.issue(viewer.account_id, viewer.token, Page.of(request), now)
    return TicketReply(
        ticket=text, expires_at=expires_at, expires_in_s=max(0, round((expires_at - now).total_seconds()))
    )
