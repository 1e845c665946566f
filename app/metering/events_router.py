"""`/v1/events`: usage events as CloudEvents 1.0. The alias makes moving from OpenMeter a change of the URL."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response, status

from app.accounts.directory import Profile
from app.accounts.schemas import user_identity_of
from app.auth.caller import Caller
from app.auth.dependencies import UsageWriter
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.errors import AppError, InvalidRequest
from app.http.idempotency import REPLAYED, REPLAYED_IN_OPENAPI
from app.http.schemas import CODED_ERRORS
from app.metering.cloudevent_usage import usage_event_of
from app.metering.cloudevents import BATCHED, STRUCTURED, CloudEvent, InvalidEvent, NotCloudEvents, parse_request
from app.metering.errors import EventsRejected, UnreadableEvents
from app.metering.events import Outcome, Rejected, Repeated, Unpaid
from app.metering.refusing import insufficient_money
from app.metering.reporting import Reported, Reporter
from app.metering.usage_schemas import MAX_BATCH, CodedInsufficientMoneyReply

router = APIRouter(tags=["usage"], responses=CODED_ERRORS, route_class=GuardedRoute)
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject"],
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        **{name: {"type": "string", "minLength": 1, "maxLength": 255} for name in ("id", "source", "type", "subject")},
        "time": {"type": "string", "format": "date-time"},
        "data": {
            "description": "The usage: an object of `metric`'s form, or with a provider's or OpenTelemetry's names."
        },
    },
}
_BATCH = {"type": "array", "maxItems": MAX_BATCH, "items": _EVENT}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Structured or batched mode. In binary mode the body is `data`, and `ce-` headers are the rest.",
        "content": {
            f"{STRUCTURED}+json": {"schema": _EVENT},
            f"{BATCHED}+json": {"schema": _BATCH},
            "application/json": {"schema": {"anyOf": [_EVENT, _BATCH]}},
        },
    }
}

OUTCOMES: dict[int | str, dict[str, Any]] = {
    204: {"headers": REPLAYED_IN_OPENAPI},
    402: {"model": CodedInsufficientMoneyReply},
}


@router.post(
    "/v1/events",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=OUTCOMES,
    openapi_extra=BODY,
)
@router.post(
    "/api/v1/events",
    status_code=status.HTTP_204_NO_CONTENT,
    operation_id="report_events_alias",
    responses=OUTCOMES,
    openapi_extra=BODY,
)
async def report_events(request: Request, caller: UsageWriter, now: Now) -> Response:
    """Record CloudEvents. Accepted and repeated ones answer 204. The part that the money does not cover becomes debt.

    The price book decides about the cost. If some events of a batch are refused, the others are recorded, and the
    answer names the refused ones.
    """
    try:
        events = parse_request(request.headers.items(), await request.body(), max_events=MAX_BATCH)
    except NotCloudEvents as error:
        raise UnreadableEvents(str(error)) from None
    reporter = Reporter(request, caller, now, policy="debt")
    items = [_reported(reporter, caller, event) for event in events]
    outcomes = await _record(reporter, items)
    errors = [_error(outcome) for outcome in outcomes]
    refused = [(place, found) for place, found in enumerate(errors) if found is not None]
    if len(events) == 1 and refused:
        raise await _refusal(reporter, items[0], outcomes[0]) or refused[0][1]
    if refused:
        ids = [event.id if isinstance(event, CloudEvent) else "" for event in events]
        raise EventsRejected([(place, ids[place], found) for place, found in refused])
    is_replay = bool(outcomes) and all(isinstance(outcome, Repeated) for outcome in outcomes)
    return Response(status_code=status.HTTP_204_NO_CONTENT, headers=REPLAYED if is_replay else None)


async def _record(reporter: Reporter, items: Sequence[Reported | AppError]) -> Sequence[Outcome]:
    """Record events. A single one in the request's own context, where the refusal log finds its account."""
    match items:
        case [Reported() as item]:
            return [await reporter.record(item)]
    return await reporter.record_all(items)


async def _refusal(reporter: Reporter, item: Reported | AppError, outcome: Outcome) -> AppError | None:
    """Return the error of an event that was not paid, with its remedies. None: it was refused for another reason."""
    if isinstance(item, Reported) and isinstance(outcome, Unpaid):
        return await reporter.refusal(item, outcome)
    return None


def _reported(reporter: Reporter, caller: Caller, event: CloudEvent | InvalidEvent) -> Reported | AppError:
    if isinstance(event, InvalidEvent):
        return InvalidRequest(str(event))
    if event.subject is None:
        return InvalidRequest("subject is required: it names the user", field="subject")
    if caller.identity_provider is None:
        return InvalidRequest("subject cannot name a user: this API key has no identity_provider", field="subject")
    try:
        usage = usage_event_of(event, reporter.headers, reporter.service_name)
        return Reported(user_identity_of(caller, None, None, event.subject), Profile(), usage)
    except AppError as error:
        return error


def _error(outcome: Outcome) -> AppError | None:
    """Return why an event was refused; None for one that is recorded, now or before."""
    if isinstance(outcome, Unpaid):
        return insufficient_money(outcome)
    return outcome.error if isinstance(outcome, Rejected) else None
