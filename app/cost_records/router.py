"""`/v1/cost-records`: records of work that is priced while it runs, for API keys with `usage:write`."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response, status

from app.auth.api_keys.key_route import KeyRoute
from app.auth.caller import Caller, Permission
from app.auth.dependencies import UsageAsker, UsageWriter
from app.clock import Now
from app.cost_records.ids import NOBODY, place_of
from app.cost_records.records import Addition, Completion, Done, Opening, Outcome, Rejected
from app.cost_records.schemas import (
    AddedReply,
    CompletionBody,
    ItemBody,
    ItemReply,
    OpenBody,
    RecordDetailReply,
    RecordReply,
)
from app.cost_records.service import CostRecordService
from app.http.idempotency import REPLAYED, REPLAYED_IN_OPENAPI
from app.http.schemas import CODED_ERRORS, CodedErrorReply, Reply
from app.metering.errors import UnpricedModel
from app.metering.events import Terms
from app.pricing.unknown_models import UnknownModels
from app.refusals.schemas import CodedNotAllowedReply

router = APIRouter(prefix="/v1/cost-records", tags=["usage"], responses=CODED_ERRORS, route_class=KeyRoute)
SINCE = "0031"
"""Versions before this revision do not know the cause of a record's ledger entries (ADR 26)."""
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
SETTLED: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": CodedErrorReply}}


def _repeatable(model: type[Reply]) -> dict[int | str, dict[str, Any]]:
    """Return the answer to a repeat, for OpenAPI."""
    return {200: {"model": model, "headers": REPLAYED_IN_OPENAPI, "description": "A repeat: nothing changed."}}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=RecordReply,
    responses={**_repeatable(RecordReply), 402: {"model": CodedNotAllowedReply}},
)
async def open_cost_record(body: OpenBody, request: Request, caller: UsageWriter, now: Now) -> RecordReply | Response:
    """Open a record before the work begins. Creates a missing account. Charges and holds nothing.

    A repeat of the `request_id` answers 200 with the same record; another record under it answers 422. 503
    `upgrade_in_progress` while the service is being upgraded.
    """
    state, settings, service = request.app.state, request.app.state.settings, _service(request)
    client_key, fingerprint, estimate = body.client(caller.environment), body.fingerprint(), body.estimated()
    identity = None if client_key else body.identity(caller)
    await state.version_mark.require(SINCE)
    account_id = NOBODY
    if identity is not None:
        # The agent is the record's: a user may have many.
        profile = body.profile(caller)._replace(agent_id=None)
        account_id, _ = await state.accounts.directory.find_or_create(identity, caller.actor, now, profile=profile)
    opening = Opening(
        account_id=account_id,
        environment=caller.environment,
        client_key=client_key,
        request_id=body.request_id,
        tool=body.tool,
        query=body.query,
        agent_id=body.agent_id,
        run_id=body.run_id,
        estimate=estimate,
        expires_in=body.lifetime(settings.cost_record_expires_s),
        on_expiry=body.on_expiry or settings.cost_record_on_expiry,
        currency=await service.default_currency(),
        source=caller.source,
        actor=caller.actor,
        at=now,
        fingerprint=fingerprint,
    )
    done = _done(await service.run(opening))
    reply = RecordReply.of(done.record)
    return reply if done.is_new else _repeat(reply)


@router.post(
    "/{record_id}/items",
    status_code=status.HTTP_201_CREATED,
    response_model=AddedReply,
    responses={**SETTLED, **_repeatable(AddedReply)},
)
async def add_cost_record_item(
    record_id: str, body: ItemBody, request: Request, caller: UsageWriter, now: Now
) -> AddedReply | Response:
    """Add an item to an open record, priced now. A repeat of the `item_id` answers 200 and adds nothing.

    409 `cost_record_settled`: the record is settled, so the item would not be charged.
    """
    place, item = place_of(record_id), body.item()
    if item.stated is not None:
        caller.require(Permission.USAGE_SET_COST)
    books = await request.app.state.price_books.in_force({now})
    markups = await request.app.state.usage.plan_markups()
    terms = Terms(actor=caller.actor, at=now, max_stated_nanos=_max_stated(caller))
    addition = Addition(place.account_id, caller.environment, place.record_id, item, terms, books, markups)
    outcome = await _service(request).run(addition)
    _note_unknown(request, outcome, now)
    done = _done(outcome)
    assert done.item is not None, "an item was added, or is known"
    reply = AddedReply(
        record_id=record_id,
        item=ItemReply.of(done.item, _quantities(done.item), done.record.currency),
        **RecordReply.of(done.record).model_dump(include={"item_count", "cost_cents", "cost"}),
    )
    return reply if done.is_new else _repeat(reply)


@router.post(
    "/{record_id}/complete",
    response_model=RecordReply,
    responses={**SETTLED, 200: {"headers": REPLAYED_IN_OPENAPI}},
)
async def complete_cost_record(
    record_id: str, body: CompletionBody, request: Request, caller: UsageWriter, now: Now
) -> RecordReply | Response:
    """Settle a record: `completed` charges the sum of its items once, `failed` charges nothing and keeps the record.

    The part that the account's money does not cover becomes debt, because the work is done. The first outcome counts:
    the same one again answers 200 with the same record, another one answers 409 `cost_record_settled` with the first.
    """
    place = place_of(record_id)
    completion = Completion(
        account_id=place.account_id,
        environment=caller.environment,
        record_id=place.record_id,
        status=body.status,
        execution_time_ms=body.execution_time_ms,
        error_message=body.error_message,
        actor=caller.actor,
        at=now,
    )
    done = _done(await _service(request).run(completion))
    reply = RecordReply.of(done.record)
    return reply if done.is_new else _repeat(reply)


@router.get("/{record_id}", responses=NOT_FOUND)
async def get_cost_record(record_id: str, request: Request, caller: UsageAsker) -> RecordDetailReply:
    """Return a record with its items."""
    record, items = await _service(request).find(caller.environment, place_of(record_id))
    return RecordDetailReply.with_items(record, items)


def _service(request: Request) -> CostRecordService:
    service: CostRecordService = request.app.state.cost_records
    return service


def _note_unknown(request: Request, outcome: Outcome, now: datetime) -> None:
    """List a model without a price, as for usage events."""
    unknown_models: UnknownModels = request.app.state.unknown_models
    if isinstance(outcome, Done) and outcome.unknown is not None:
        unknown_models.note(outcome.unknown, now, stated_price=True)
    elif isinstance(outcome, Rejected) and isinstance(outcome.error, UnpricedModel):
        unknown_models.note(outcome.error.unknown, now, stated_price=False)


def _done(outcome: Outcome) -> Done:
    if isinstance(outcome, Rejected):
        raise outcome.error
    return outcome


def _repeat(reply: Reply) -> Response:
    return Response(reply.model_dump_json(), headers=REPLAYED, media_type="application/json")


def _max_stated(caller: Caller) -> int:
    return (caller.max_cost_nanos or 0) if Permission.USAGE_SET_COST in caller.permissions else 0


def _quantities(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantities of a row that was read, or that is new."""
    quantities = row["quantities"]
    return dict(json.loads(quantities)) if isinstance(quantities, str) else quantities
