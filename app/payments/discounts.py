"""Discounts that plans give on the price of money."""

from decimal import Decimal

from app.configuration.sections import PLANS
from app.configuration.service import Current


def discount_percent(config: Current, plan_name: str) -> Decimal:
    """Return the discount in percent, from 0 to 99, that a plan gives on the price of money. 0 for an unknown plan."""
    plan = config.document(PLANS).find(plan_name)
    return Decimal(0) if plan is None else Decimal(plan.purchase_discount_percent)


def percent_text(percent: Decimal) -> str:
    """Return a percentage as people write it: "10", or "12.5"."""
    return format(percent.normalize(), "f")
