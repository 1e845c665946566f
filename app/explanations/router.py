"""Explanations of charges and holds: `…/{id}/explanation`, for API keys with `billing:read`.

Sub-resources, because older clients compare the charge and the hold themselves with their copies.
"""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.auth.caller import Actor
from app.auth.dependencies import Reader
from app.billing.posting import charge_of
from app.billing.schemas import ChargeReply
from app.explanations.schemas import CallerReply, ChargeExplanation, HoldExplanation, PaidFromReply
from app.explanations.service import Explainer
from app.holds.ids import text_of
from app.holds.schemas import HoldReply
from app.http.schemas import ERRORS, ErrorReply
from app.ledger.move_schemas import replies_of
from app.ledger.pools import MINOR_PER_CREDIT
from app.ledger.remedies import NO_STORE

router = APIRouter(prefix="/v1/billing", tags=["billing"], responses=ERRORS)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}


@router.get("/charges/{charge_id}/explanation", responses=NOT_FOUND)
async def explain_charge(charge_id: UUID, request: Request, caller: Reader, response: Response) -> ChargeExplanation:
    """Explain a charge: the balances and grants that paid, the limits, the caller, the hold and the run."""
    response.headers.update(NO_STORE)
    explainer = _explainer(request)
    row, moves = await explainer.charge(caller.environment, charge_id)
    hold = await explainer.captured_hold(caller.environment, row)
    charge = ChargeReply.of(charge_of(row))
    return ChargeExplanation(
        charge=charge,
        operation=row["operation"],
        cost_minor=row["cost"] * MINOR_PER_CREDIT,
        paid_from=PaidFromReply.of(row),
        moves=replies_of(moves),
        limits=await explainer.limits(row["account_id"], charge_id if hold is None else hold.hold_id),
        caller=_caller(await explainer.caller(moves)),
        hold_id=None if hold is None else text_of(hold.account_id, hold.hold_id),
        run_id=row["run_id"] if hold is None else hold.run_id,
        request_id=charge.metadata.request_id,
        agent_id=charge.metadata.agent_id,
    )


@router.get("/holds/{hold_id}/explanation", responses=NOT_FOUND)
async def explain_hold(hold_id: str, request: Request, caller: Reader, response: Response) -> HoldExplanation:
    """Explain a hold: the balances and grants that it took from, what its settlement spent, and what it returned."""
    response.headers.update(NO_STORE)
    explainer = _explainer(request)
    hold, moves = await explainer.hold(caller.environment, hold_id)
    return HoldExplanation(
        hold=HoldReply.of(hold),
        moves=replies_of(moves),
        limits=await explainer.limits(hold.account_id, hold.hold_id),
        caller=_caller(await explainer.caller(moves)),
    )


def _explainer(request: Request) -> Explainer:
    state = request.app.state
    return Explainer(state.db, state.billing, state.holds)


def _caller(found: tuple[Actor, str | None] | None) -> CallerReply | None:
    return None if found is None else CallerReply.of(*found)
