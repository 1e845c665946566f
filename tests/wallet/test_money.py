"""Units of money: exact conversions, rounded only where a minor unit is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Float

from app.currencies import CURRENCIES
from app.db import Base
from app.ledger.money import (
    MAX_NANOS,
    NANOS_PER_UNIT,
    decimal_text,
    minor_ceil,
    minor_floor,
    nanos_of_minor,
    nanos_of_text,
)

NANOS = st.integers(-MAX_NANOS, MAX_NANOS)
ANY_CURRENCY = st.sampled_from(sorted(CURRENCIES))


@given(NANOS)
def test_decimal_text_is_exact_and_read_back(nanos: int) -> None:
    text = decimal_text(nanos)
    assert nanos_of_text(text) == nanos
    whole, _, fraction = text.partition(".")
    assert 6 <= len(fraction) <= 9
    assert len(fraction) == 6 or not fraction.endswith("0")
    assert int(whole + fraction.ljust(9, "0")) == nanos


@given(NANOS, ANY_CURRENCY)
def test_a_balance_is_never_shown_larger_and_a_cost_never_smaller(nanos: int, currency: str) -> None:
    floor, ceil = minor_floor(nanos, currency), minor_ceil(nanos, currency)
    assert nanos_of_minor(floor, currency) <= nanos <= nanos_of_minor(ceil, currency)
    assert 0 <= ceil - floor <= 1
    assert (ceil == floor) == (nanos == nanos_of_minor(floor, currency))


@given(st.integers(0, 10**9), ANY_CURRENCY)
def test_minor_units_are_exact(minor: int, currency: str) -> None:
    nanos = nanos_of_minor(minor, currency)
    assert minor_floor(nanos, currency) == minor_ceil(nanos, currency) == minor
    assert nanos * 10 ** CURRENCIES[currency].digits == minor * NANOS_PER_UNIT


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_splitting_never_changes_a_sum(parts: list[int]) -> None:
    assert sum(nanos_of_text(decimal_text(part)) for part in parts) == sum(parts)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("9.999600", 9_999_600_000),
        ("0.000400", 400_000),
        ("0.000000020", 20),
        ("10", 10 * NANOS_PER_UNIT),
        ("-1.5", -1_500_000_000),
        ("9223372036.854775807", MAX_NANOS),
    ],
)
def test_texts_of_money(text: str, nanos: int) -> None:
    assert nanos_of_text(text) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(9_999_600_000, "9.999600"), (20, "0.00000002"), (0, "0.000000"), (-1, "-0.000000001")]
)
def test_money_as_text(nanos: int, text: str) -> None:
    assert decimal_text(nanos) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".", "1.", ".5", "+1", "1e3", "1_000", "1,5", " 1", "1 ", "NaN", "Infinity", "0x1", "1.0000000001"),
        *("٣", "1\n", "9223372036.854775808", "99999999999999999999", "1\x00"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        nanos_of_text(text)


@pytest.mark.parametrize(("currency", "nanos_per_minor"), [("USD", 10**7), ("JPY", 10**9), ("KWD", 10**6)])
def test_the_digits_of_a_currency_decide(currency: str, nanos_per_minor: int) -> None:
    assert nanos_of_minor(1, currency) == nanos_per_minor
    assert (minor_floor(nanos_per_minor - 1, currency), minor_ceil(1, currency)) == (0, 1)


def test_no_column_is_a_float() -> None:
    """Of all tables: tests.conftest imports the application."""
    columns = [column for table in Base.metadata.tables.values() for column in table.columns]
    assert [str(column) for column in columns if isinstance(column.type, Float)] == []
