"""Money: conversions between nanos, minor units and decimal text. Pure: integers only, never floats.

A nano is 10^-9 of a currency's major unit: $1 is 1,000,000,000 nanos. Balances are rounded down to minor units, costs
and required amounts up. Decisions use nanos. The decimal text is exact.
"""

import re

from app.currencies import NANO_DIGITS, info_of

NANOS_PER_UNIT = 10**NANO_DIGITS
MAX_NANOS = 2**63 - 1
"""The largest amount of money: it fits the columns' 64 bits."""
SHOWN_DIGITS = 6
"""Fraction digits that a decimal text has at least."""

_DECIMAL = re.compile(r"(-?)([0-9]{1,19})(?:\.([0-9]{1,9}))?", re.ASCII)


def nanos_of_minor(minor: int, currency: str) -> int:
    """Return the nanos of an amount in minor units, such as cents."""
    return minor * info_of(currency).nanos_per_minor


def minor_floor(nanos: int, currency: str) -> int:
    """Return nanos in minor units, rounded down. For balances: never more than there is."""
    return nanos // info_of(currency).nanos_per_minor


def minor_ceil(nanos: int, currency: str) -> int:
    """Return nanos in minor units, rounded up. For costs and required amounts: never less than is needed."""
    return -(-nanos // info_of(currency).nanos_per_minor)


def decimal_text(nanos: int) -> str:
    """Return the exact amount in major units: 9,999,600,000 is "9.999600". 6 fraction digits, or more if needed."""
    units, fraction = divmod(abs(nanos), NANOS_PER_UNIT)
    digits = f"{fraction:0{NANO_DIGITS}}"
    kept = digits[:SHOWN_DIGITS] + digits[SHOWN_DIGITS:].rstrip("0")
    return f"{'-' if nanos < 0 else ''}{units}.{kept}"


def nanos_of_text(text: str) -> int:
    """Return the nanos of a decimal text in major units, such as "10" or "0.000400". Exact.

    Raises ValueError for any other text, for more than 9 fraction digits, and for more than 64 bits.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError("must be a decimal number with at most 9 fraction digits, as text")
    sign, units, fraction = match.groups()
    nanos: int = int(units) * NANOS_PER_UNIT + int((fraction or "").ljust(NANO_DIGITS, "0"))
    if nanos > MAX_NANOS:
        raise ValueError("must fit 64 bits in nanos")
    return -nanos if sign else nanos
