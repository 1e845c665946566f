"""An account's movements of money with a description of each, for both neighbours' lists."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from app.cost_records.history import ChargedRecord, find_charged_records
from app.db import Database
from app.ledger.money_history import Movement, list_money_movements
from app.metering.report_queries import list_events_by_id
from app.payments.facts import Provider
from app.payments.refill_purchases import refills_among
from app.wallet.money_credits import Particulars, described

USAGE, COST_RECORD, MONEY_CREDIT = "usage_event", "cost_record", "money_credit"
CORRECTION = "correction"
_DESCRIBED = (USAGE, COST_RECORD, MONEY_CREDIT)
PROVIDERS: frozenset[str] = frozenset(get_args(Provider))
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
    """A movement, what to call it, its own time, and the usage event, cost record or payment that caused it."""

    movement: Movement
    description: str
    at: datetime
    event: Mapping[str, Any] | None = None
    record: ChargedRecord | None = None
    payment_id: str | None = None
    is_refill: bool = False
    """A purchase that the service made with a saved card."""

    @property
    def id(self) -> str:
        """Identifies the movement: the id that the answer to its request named, or else one with the entry's number."""
        movement = self.movement
        is_own = movement.reason not in ("correction", "grant_ended", "grant_expiry")
        if is_own and movement.cause_type != "account":
            return str(movement.cause_id if self.record is None else self.record.usage_id)
        return f"{movement.cause_id}:{movement.entry_no}"

    @property
    def payment_provider(self) -> str | None:
        """Return the provider of the payment. None: another system's, or none."""
        movement = self.movement
        is_payment = movement.cause_type == MONEY_CREDIT and movement.actor_type in PROVIDERS
        return movement.actor_type if is_payment else None

    @property
    def request_id(self) -> str | None:
        """Return the caller's id of the request that used the money."""
        if self.record is not None:
            return self.record.request_id
        event = self.event or {}
        return (event.get("attribution") or {}).get("request_id") or event.get("event_id")


async def list_described(
    db: Database, account_id: UUID, *, limit: int, offset: int, reasons: Collection[str] | None = None
) -> Sequence[Described]:
    """Return a page of an account's movements of money, newest first."""
    async with db.read() as session:
        movements = await list_money_movements(session, account_id, limit=limit, offset=offset, reasons=reasons)
        causes = {kind: [m.cause_id for m in movements if m.cause_type == kind] for kind in _DESCRIBED}
        events = await list_events_by_id(session, account_id, causes[USAGE])
        records = await find_charged_records(session, account_id, causes[COST_RECORD])
        credits = await described(session, account_id, causes[MONEY_CREDIT])
        refills = await refills_among(session, account_id, [m.cause_id for m in movements if m.reason == "purchase"])
    return [
        replace(
            _described(m, events.get(m.cause_id), records.get(m.cause_id), credits.get(m.cause_id)),
            is_refill=m.cause_id in refills,
        )
        for m in movements
    ]


def _described(
    movement: Movement, event: Mapping[str, Any] | None, record: ChargedRecord | None, credit: Particulars | None
) -> Described:
    reason = CORRECTION if movement.cause_type == CORRECTION else movement.reason
    text = (credit and credit.description) or REASONS.get(reason, reason)
    if event is not None and movement.reason == "usage":
        text = _usage(event)
    elif record is not None and movement.reason == "usage":
        text = f"{record.tool}: {record.query}" if record.query else record.tool
    elif movement.grant_source is not None:
        text = f"{text}: {movement.grant_source}"
    if credit is None:
        return Described(movement, text, movement.created_at, event, record)
    return Described(movement, text, credit.created_at, payment_id=credit.external_transaction_id)


def _usage(event: Mapping[str, Any]) -> str:
    """Return what was used: `gpt-4o, tool search`, or the meter."""
    about = event["model"] or METERS.get(event["meter"], event["meter"])
    detail = (event["quantities"] or {}).get("endpoint")
    if detail:
        about = f"{about}: {detail}"
    return f"{event['tool']}: {about}" if event["tool"] else str(about)
