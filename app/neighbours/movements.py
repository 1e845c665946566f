"""An account's movements of money with a description of each, for both neighbours' lists."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import Database
from app.ledger.money_history import Movement, list_money_movements
from app.metering.report_queries import list_events_by_id
from app.wallet.money_credits import described

USAGE, MONEY_CREDIT = "usage_event", "money_credit"
METERS = {"llm_tokens": "LLM tokens", "compute": "Compute", "api_calls": "API calls", "tool_calls": "Tool calls"}
REASONS = {
    "adjustment": "Adjustment",
    "bonus": "Bonus",
    "correction": "Correction of usage",
    "dispute_reinstatement": "Dispute won",
    "dispute_reversal": "Dispute",
    "grant": "Credit",
    "grant_ended": "Grant ended",
    "grant_expiry": "Grant expired",
    "grant_given": "Grant",
    "opening_grant": "Opening balance",
    "purchase": "Purchase",
    "refund": "Refund",
    "refund_reversal": "Refund",
    "usage": "Usage",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A movement, what to call it, its own time, and the usage event that caused it."""

    movement: Movement
    description: str
    at: datetime
    event: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """Identifies the movement: the id that the answer to its request named, or else one with the entry's number."""
        movement = self.movement
        is_own = movement.reason not in ("correction", "grant_ended", "grant_expiry")
        if is_own and movement.cause_type != "account":
            return str(movement.cause_id)
        return f"{movement.cause_id}:{movement.entry_no}"


async def list_described(
    db: Database, account_id: UUID, *, limit: int, offset: int, reasons: Collection[str] | None = None
) -> Sequence[Described]:
    """Return a page of an account's movements of money, newest first."""
    async with db.read() as session:
        movements = await list_money_movements(session, account_id, limit=limit, offset=offset, reasons=reasons)
        used = [movement.cause_id for movement in movements if movement.cause_type == USAGE]
        events = await list_events_by_id(session, account_id, used)
        given = [movement.cause_id for movement in movements if movement.cause_type == MONEY_CREDIT]
        credits = await described(session, account_id, given)
    return [_described(m, events.get(m.cause_id), *credits.get(m.cause_id, (None, m.created_at))) for m in movements]


def _described(movement: Movement, event: Mapping[str, Any] | None, given: str | None, at: datetime) -> Described:
    text = given or REASONS.get(movement.reason, movement.reason)
    if event is not None and movement.reason == "usage":
        text = _usage(event)
    elif movement.grant_source is not None:
        text = f"{text}: {movement.grant_source}"
    return Described(movement, text, at, event)


def _usage(event: Mapping[str, Any]) -> str:
    """Return what was used: `gpt-4o, tool search`, or the meter."""
    about = event["model"] or METERS.get(event["meter"], event["meter"])
    detail = (event["quantities"] or {}).get("endpoint")
    if detail:
        about = f"{about}: {detail}"
    return f"{event['tool']}: {about}" if event["tool"] else str(about)
