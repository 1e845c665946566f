"""Closing an account ends its open purchases, by a job in the same transaction (transactional outbox)."""

from datetime import datetime
from uuid import UUID

from app.db import Session
from app.jobs import defer

SETTLE_PURCHASES = "settle_purchases"
"""The task that brings an account's unsettled purchases to where the account's status wants them."""


async def settle_purchases(tx: Session, account_id: UUID, now: datetime) -> None:
    """Have the worker cancel a closed account's open purchases, or book what waits for a reopened one."""
    await defer(tx, SETTLE_PURCHASES, {"account_id": str(account_id)}, now)
