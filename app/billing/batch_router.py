"""`/v1/billing/charges/batch`: many charges in one request, for API keys."""

import json
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import Writer
from app.billing.batch_schemas import ChargeBatchBody, ChargeBatchReply
from app.billing.batches import CREATED, ChargeBatch, Result
from app.clock import Now
from app.errors import AppError, Busy
from app.http.idempotency import REPLAYED, REPLAYED_IN_OPENAPI
from app.http.schemas import ERRORS
from app.ledger.remedies import NO_STORE

router = APIRouter(prefix="/v1/billing/charges", tags=["billing"], responses=ERRORS, route_class=KeyRoute)
BUSY = 503
PATH = "/v1/billing/charges/batch"


@router.post("/batch", response_model=ChargeBatchReply, responses={200: {"headers": REPLAYED_IN_OPENAPI}})
async def create_charges(body: ChargeBatchBody, request: Request, caller: Writer, now: Now) -> Response:
    """Charge up to 1,000 interactions. Each charge has its own result: the status and body of the single route.

    Not atomic: a refused, repeated or malformed charge changes nothing about the others. Charges of one user are
    decided in their order. Give each an `idempotency_key`, so that the batch can be repeated after a lost answer; the
    header `Idempotency-Key` does not apply. Send charges with the status 503 again. A batch counts as one request of
    its key and address, and as one of each user that it names. 503 if every charge failed with that status.
    """
    state = request.app.state

    def note_refusal(error: AppError, account_id: UUID) -> None:
        state.refusal_log.note(error, PATH, account_id)

    results = await ChargeBatch(state.billing, caller, now, note_refusal).run(body.charges)
    statuses = [result.status for result in results]
    if results and set(statuses) == {BUSY}:
        raise Busy
    processed, replayed = statuses.count(CREATED), sum(result.is_replay for result in results)
    is_watched = caller.double_charges != "ignore"
    items = [_item(sent, result, is_watched) for sent, result in zip(body.charges, results, strict=True)]
    failed = len(results) - processed - replayed
    reply = {"results": items, "processed": processed, "replayed": replayed, "failed": failed}
    headers = {**NO_STORE, **(REPLAYED if results and replayed == len(results) else {})}
    return Response(json.dumps(reply), headers=headers, media_type="application/json")


def _item(sent: Any, result: Result, is_watched: bool) -> dict[str, Any]:
    item = {
        "idempotency_key": _key_of(sent),
        "success": result.status == CREATED or result.is_replay,
        "status": result.status,
        "body": result.body,
    }
    if is_watched:
        item["probable_double_of"] = None if result.double_of is None else str(result.double_of)
    return item


def _key_of(sent: Any) -> str | None:
    """Return the key of a batch's charge as it was sent; None if it has none that JSON in UTF-8 can repeat."""
    key = sent.get("idempotency_key") if isinstance(sent, dict) else None
    return key if isinstance(key, str) and key.encode(errors="ignore").decode() == key else None
