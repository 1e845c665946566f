"""Our own events: rows of events that no caller reported, for work that is settled as a whole."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db.statements import Tx
from app.ledger.locked_account import LockedAccount
from app.metering import event_queries
from app.metering.events import Status

OWN = b"own"
"""Instead of a fingerprint. Not empty: an empty one is of an imported event."""


def own_event(
    account: LockedAccount,
    usage_id: UUID,
    *,
    source: str,
    meter: str,
    status: Status,
    cost_nanos: int,
    occurred_at: datetime,
    now: datetime,
    **more: Any,
) -> dict[str, Any]:
    """Return the event's row; `more` has further columns. Its id is our own, so no caller can have used it before."""
    return {
        "account_id": account.account_id,
        "usage_id": usage_id,
        "environment": account.environment,
        "source": source,
        "event_id": str(usage_id),
        "meter": meter,
        "provider": None,
        "model": None,
        "quantities": "{}",
        "raw": None,
        "metadata": None,
        "status": status,
        "refusal": None,
        "currency": account.currency,
        "cost_nanos": cost_nanos,
        "stated_nanos": None,
        "provider_cost_nanos": None,
        "debt_nanos": 0,
        "balance_after_nanos": account.money_remaining(now),
        "price_version": None,
        "price": None,
        "plan_name": account.plan_name,
        "agent_id": None,
        "tool": None,
        "run_id": None,
        "attribution": None,
        "key_id": None,
        "occurred_at": occurred_at,
        "created_at": now,
        **more,
    }


async def insert_own_events(tx: Tx, events: Sequence[dict[str, Any]]) -> None:
    """Store our own events, and use up their ids. No report can repeat one, so it needs no fingerprint."""
    if not events:
        return
    names = ("account_id", "event_id", "source", "usage_id")
    keys = [{**{name: event[name] for name in names}, "fingerprint": OWN} for event in events]
    await event_queries.insert_events(tx, events)
    await event_queries.insert_keys(tx, keys)
