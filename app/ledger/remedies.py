"""Remedies that the ledger's refusals name, in the form of `app.refusals.schemas`."""

from collections.abc import Mapping
from types import MappingProxyType

from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT

NO_STORE: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})
"""Headers of every refusal: the account changes."""


def smaller_amount(unit: str, room: int) -> dict[str, object]:
    """Return the amount that would go through: `room` credits, or nanos of money."""
    if unit == CREDIT:
        return {"type": "smaller_amount", "amount_minor": room * MINOR_PER_CREDIT, "amount": None, "currency": None}
    return {"type": "smaller_amount", "amount_minor": None, "amount": decimal_text(room), "currency": unit}
