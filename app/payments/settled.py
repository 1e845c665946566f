"""Settled payments of an account, on which its referral depends."""

from uuid import UUID

from app.db import Session
from app.payments import queries


async def has_settled_payment(db: Session, account_id: UUID) -> bool:
    """Return whether the account has a booked purchase that was not wholly taken back. Final under its lock."""
    return await queries.has_kept_purchase(db, account_id)
