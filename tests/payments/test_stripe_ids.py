"""Ids of Stripe: printable text of 1 to 255 characters."""

import pytest

from app.payments.stripe_objects import stripe_id


@pytest.mark.parametrize("value", ["r", "r" * 255])
def test_ids_at_the_bounds_are_accepted(value: str) -> None:
    assert stripe_id(value) == value


@pytest.mark.parametrize("value", ["", "r" * 256, "re_\n", None, 7])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not an id"):
        stripe_id(value)
