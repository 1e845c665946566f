"""`/v1/usage`: events, batches, checks and quotes, for API keys (wire-compatible with Z-Billing)."""

from typing import Any

from fastapi import APIRouter, Request, Response, status

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import UsageAsker, UsageWriter
from app.clock import Now
from app.errors import AppError, error_body
from app.http.idempotency import REPLAYED, REPLAYED_IN_OPENAPI
from app.http.schemas import CODED_ERRORS
from app.http.service_name import IN_OPENAPI as SERVICE_NAME
from app.metering.events import Accepted, Outcome, Rejected, Repeated, StatedCost, Unpaid
from app.metering.refusing import insufficient_money
from app.metering.reporting import Reported, Reporter
from app.metering.usage_schemas import (
    BatchBody,
    BatchReply,
    CheckUsageBody,
    CheckUsageReply,
    CodedDuplicateReply,
    CodedInsufficientMoneyReply,
    ComputeBody,
    DuplicateReply,
    ItemReply,
    QuoteBody,
    QuoteReply,
    UsageBody,
    UsageReply,
    duplicate_message,
)
from app.refusals.schemas import CodedNotAllowedReply

router = APIRouter(prefix="/v1/usage", tags=["usage"], responses=CODED_ERRORS, route_class=KeyRoute)
OUTCOMES: dict[int | str, dict[str, Any]] = {
    402: {"model": CodedInsufficientMoneyReply | CodedNotAllowedReply},
    409: {"model": CodedDuplicateReply, "headers": REPLAYED_IN_OPENAPI},
}
HEADERS = {"parameters": [SERVICE_NAME]}


# The busiest route is first: FastAPI searches the routes in this order.
@router.post("", response_model=UsageReply, responses=OUTCOMES, openapi_extra=HEADERS)
async def report_usage(body: UsageBody, request: Request, caller: UsageWriter, now: Now) -> UsageReply | Response:
    """Record and charge one event. A repeat answers 409 `duplicate_event` with the first result, and costs nothing.

    After 402 the same event may be sent again. Another event with the same id answers 422.
    """
    reporter = Reporter(request, caller, now)
    return await _answer(reporter, reporter.reported(body))


@router.post("/check")
async def check_usage(body: CheckUsageBody, request: Request, caller: UsageAsker, now: Now) -> CheckUsageReply:
    """Check before work whether the account can pay for it. Creates a missing account. Holds nothing."""
    state = request.app.state
    account_id, _ = await state.accounts.directory.find_or_create(
        body.identity(caller), caller.actor, now, profile=body.profile(caller)
    )
    model = None if body.provider is None or body.model is None else (body.provider, body.model)
    required = StatedCost("minor", body.required_cents)
    check = await state.usage.check(account_id, required, model, now, key=caller.actor.key_id)
    return CheckUsageReply.of(check, body.required_cents)


@router.post("/quote")
async def quote_usage(body: QuoteBody, request: Request, caller: UsageAsker, now: Now) -> QuoteReply:
    """Return what usage would cost, line by line, by the code that charges it. Changes no account.

    With a user, its account's plan and currency decide, and the terms that a subscriber keeps.
    """
    state, terms = request.app.state, {"plan": body.plan}
    if (identity := body.identity(caller)) is not None:
        terms = await _terms_of(state.accounts, identity)
    priced = await state.usage.quote(body.metric.usage(), at=body.time or now, tool=body.tool, **terms)
    return QuoteReply.of(priced)


async def _terms_of(accounts: AccountService, identity: Identity) -> dict[str, Any]:
    """Return what the price for a user depends on; nothing without an account."""
    account_id = await accounts.directory.find(identity)
    if account_id is None:
        return {}
    account = await accounts.state(account_id)
    return {
        "currency": account["currency"],
        "plan": account["plan_name"],
        "kept_markup": account["plan_markup_percent"],
    }


@router.post(
    "/batch",
    response_model=BatchReply,
    responses={200: {"headers": REPLAYED_IN_OPENAPI}},
    openapi_extra=HEADERS,
)
async def report_batch(body: BatchBody, request: Request, caller: UsageWriter, now: Now) -> BatchReply | Response:
    """Record up to 1,000 events. Each has its own result; those of one account are decided in their order."""
    reporter = Reporter(request, caller, now)
    items = [reporter.parsed(item) for item in body.events]
    outcomes = await reporter.record_all(items)
    results = [_item(sent, item, outcome) for sent, item, outcome in zip(body.events, items, outcomes, strict=True)]
    processed = sum(result.success for result in results)
    reply = BatchReply(results=results, processed=processed, failed=len(results) - processed)
    if outcomes and all(isinstance(outcome, Repeated) for outcome in outcomes):
        return Response(reply.model_dump_json(), headers=REPLAYED, media_type="application/json")
    return reply


@router.post("/compute", response_model=UsageReply, responses=OUTCOMES, openapi_extra=HEADERS)
async def report_compute(body: ComputeBody, request: Request, caller: UsageWriter, now: Now) -> UsageReply | Response:
    """Record and charge hours of compute, in the flat form that schedulers send."""
    reporter = Reporter(request, caller, now)
    return await _answer(reporter, reporter.reported(body.as_usage()))


async def _answer(reporter: Reporter, reported: Reported) -> UsageReply | Response:
    match await reporter.record(reported):
        case Accepted(record):
            return UsageReply.of(record)
        case Repeated(record):
            problem = error_body(duplicate_message(record.event_id), "duplicate_event")
            content = DuplicateReply.of(record, **problem).model_dump_json()
            return Response(content, status.HTTP_409_CONFLICT, REPLAYED, media_type="application/json")
        case Unpaid() as outcome:
            raise await reporter.refusal(reported, outcome)
        case Rejected(error):
            raise error


def _item(sent: object, item: Reported | AppError, outcome: Outcome) -> ItemReply:
    match outcome:
        case Accepted(record):
            return ItemReply.of(record)
        case Repeated(record):
            return ItemReply.of(record, duplicate=True)
        case Unpaid():
            return ItemReply.failed(event_id_of(sent), insufficient_money(outcome))
        case Rejected(error):
            return ItemReply.failed(event_id_of(sent), error)


def event_id_of(sent: object) -> str:
    """Return the id of a batch's item as it was sent, "" if it has none that JSON in UTF-8 can repeat."""
    event_id = sent.get("event_id") if isinstance(sent, dict) else None
    if not isinstance(event_id, str):
        return ""
    return event_id if event_id.encode(errors="ignore").decode() == event_id else ""
