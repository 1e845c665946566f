"""Units of limits, budgets and balances, and their amounts, as texts on the wire. Pure."""

from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT

USE = "use"
"""The unit of limits that count requests: charges, tool uses, usage events, holds and cost records."""


def unit_text(unit: str) -> str:
    return {CREDIT: "credits", USE: "uses"}.get(unit, unit)


def amount_text(unit: str, amount: int) -> str:
    """Return an amount as it is on the wire: credits and uses as whole numbers, money as an exact decimal."""
    return str(amount) if unit in (CREDIT, USE) else decimal_text(amount)
