"""Refusals of credits: the error of a charge, hold or use that was not paid, and its remedies. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.billing.errors import InsufficientCredits
from app.configuration.service import Current
from app.ledger.pools import CREDIT, Shortfall
from app.products import Product
from app.refusals.remedies import packs_for, smaller, spendable_tomorrow, wait_for_tomorrow


def insufficient_credits(
    shortfall: Shortfall, account: Mapping[str, Any], config: Current, now: datetime, use_of: Product | None = None
) -> InsufficientCredits:
    """Return the error of a refused charge or hold of credits, or (`use_of`) of a use of a product.

    `account`: its columns, read after the refusal.
    """
    available, required = shortfall
    if use_of is None:
        affordable = available
        helps = spendable_tomorrow(account, available, config.defaults.daily_free_uses, now) >= required
    else:  # a use has one price
        affordable, helps = 0, use_of.daily_free > 0 and use_of.cap > 0
    is_sold = account["environment"] in config.providers
    missing: int = required - available + account["debt"]
    offer = packs_for(missing, config.packs, account["currency"]) if is_sold else []
    return InsufficientCredits(
        available=available,
        required=required,
        affordable=affordable,
        remedies=[*smaller(CREDIT, affordable), *wait_for_tomorrow(now, helps=helps), *offer],
    )
