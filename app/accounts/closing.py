"""Closing an account ends its open purchases, by a job in the same transaction (transactional outbox)."""

from datetime import datetime
from uuid import UUID

from app.db import Session
from app.outbox import defer

SETTLE_PURCHASES = "settle_purchases"
"""Name of the task that settles or cancels an account's open purchases, as the account's status requires."""


async def settle_purchases(tx: Session, account_id: UUID, now: datetime) -> None:
    """Enqueue a job: it cancels a closed account's open purchases, or books a reopened account's waiting payments."""
    await defer(tx, SETTLE_PURCHASES, {"account_id": str(account_id)}, now)
