"""`/v1/usage`: events, batches, checks and quotes, for API keys (wire-compatible with Z-Billing)."""

from typing import Any

from fastapi import APIRouter, Request, Response, status

from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import UsageAsker, UsageWriter
from app.clock import Now
from app.errors import AppError, error_body
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.http.service_name import IN_OPENAPI as SERVICE_NAME
from app.metering.errors import InsufficientMoney
from app.metering.events import Accepted, Outcome, Rejected, Repeated, StatedCost, Unpaid
from app.metering.reporting import Reported, Reporter
from app.metering.usage_schemas import (
    BatchBody,
    BatchReply,
    CheckUsageBody,
    CheckUsageReply,
    CodedDuplicateReply,
    ComputeBody,
    DuplicateReply,
    ItemReply,
    QuoteBody,
    QuoteReply,
    UsageBody,
    UsageReply,
    duplicate_message,
)

router = APIRouter(prefix="/v1/usage", tags=["usage"], responses=CODED_ERRORS, route_class=KeyRoute)
OUTCOMES: dict[int | str, dict[str, Any]] = {402: {"model": CodedErrorReply}, 409: {"model": CodedDuplicateReply}}
HEADERS = {"parameters": [SERVICE_NAME]}


# The busiest route is first: FastAPI searches the routes in this order.
@router.post("", response_model=UsageReply, responses=OUTCOMES, openapi_extra=HEADERS)
async def report_usage(body: UsageBody, request: Request, caller: UsageWriter, now: Now) -> UsageReply | Response:
    """Record and charge one event. A repeat answers 409 `duplicate_event` with the first result, and costs nothing.

    After 402 the same event may be sent again. Another event with the same id answers 422.
    """
    reporter = Reporter(request, caller, now)
    return _answer(await reporter.record(reporter.reported(body)))


@router.post("/check")
async def check_usage(body: CheckUsageBody, request: Request, caller: UsageAsker, now: Now) -> CheckUsageReply:
    """Check before work whether the account can pay for it. Creates a missing account. Holds nothing."""
    state = request.app.state
    account_id, _ = await state.accounts.directory.find_or_create(
        body.identity(caller), caller.actor, now, profile=body.profile(caller)
    )
    model = None if body.provider is None or body.model is None else (body.provider, body.model)
    required = StatedCost("minor", body.required_cents)
    return CheckUsageReply.of(await state.usage.check(account_id, required, model, now), body.required_cents)


@router.post("/quote")
async def quote_usage(body: QuoteBody, request: Request, caller: UsageAsker, now: Now) -> QuoteReply:
    """Return what usage would cost, line by line, by the code that charges it. Touches no account."""
    priced = await request.app.state.usage.quote(
        body.metric.usage(), at=body.time or now, plan=body.plan, tool=body.tool
    )
    return QuoteReply.of(priced)


@router.post("/batch", openapi_extra=HEADERS)
async def report_batch(body: BatchBody, request: Request, caller: UsageWriter, now: Now) -> BatchReply:
    """Record up to 1,000 events. Each has its own result; those of one account are decided in their order."""
    reporter = Reporter(request, caller, now)
    items = [reporter.parsed(item) for item in body.events]
    outcomes = await reporter.record_all(items)
    results = [_item(sent, item, outcome) for sent, item, outcome in zip(body.events, items, outcomes, strict=True)]
    processed = sum(result.success for result in results)
    return BatchReply(results=results, processed=processed, failed=len(results) - processed)


@router.post("/compute", response_model=UsageReply, responses=OUTCOMES, openapi_extra=HEADERS)
async def report_compute(body: ComputeBody, request: Request, caller: UsageWriter, now: Now) -> UsageReply | Response:
    """Record and charge hours of compute, in the flat form that schedulers send."""
    reporter = Reporter(request, caller, now)
    return _answer(await reporter.record(reporter.reported(body.as_usage())))


def _answer(outcome: Outcome) -> UsageReply | Response:
    match outcome:
        case Accepted(record):
            return UsageReply.of(record)
        case Repeated(record):
            problem = error_body(duplicate_message(record.event_id), "duplicate_event")
            content = DuplicateReply.of(record, **problem).model_dump_json()
            return Response(content, status.HTTP_409_CONFLICT, media_type="application/json")
        case Unpaid():
            raise unpaid(outcome)
        case Rejected(error):
            raise error


def unpaid(outcome: Unpaid) -> InsufficientMoney:
    return InsufficientMoney(
        available=outcome.available,
        required=outcome.required,
        currency=outcome.currency,
        debt_limit_reached=outcome.debt_limit_reached,
    )


def _item(sent: object, item: Reported | AppError, outcome: Outcome) -> ItemReply:
    match outcome:
        case Accepted(record):
            return ItemReply.of(record)
        case Repeated(record):
            return ItemReply.of(record, duplicate=True)
        case Unpaid():
            return ItemReply.failed(event_id_of(sent), unpaid(outcome))
        case Rejected(error):
            return ItemReply.failed(event_id_of(sent), error)


def event_id_of(sent: object) -> str:
    """Return the id of a batch's item as it was sent, "" if it has none that JSON in UTF-8 can repeat."""
    event_id = sent.get("event_id") if isinstance(sent, dict) else None
    if not isinstance(event_id, str):
        return ""
    return event_id if event_id.encode(errors="ignore").decode() == event_id else ""
