"""Offers: the plans for sale, with their prices at the provider. Pure."""

from dataclasses import dataclass

from app.auth.caller import Environment
from app.configuration.sections import PLANS
from app.configuration.service import Current
from app.plans.document import Interval, PlanPrice
from app.subscriptions.errors import PlanNotSold, UnknownPlan
from app.subscriptions.state import Terms


@dataclass(frozen=True, slots=True)
class Offered:
    """A plan for sale: its terms, and its price at the provider."""

    terms: Terms
    price: PlanPrice
    price_id: str


def offered_plan(config: Current, plan: str, interval: Interval, currency: str, environment: Environment) -> Offered:
    """Return the offer of a plan. Raises UnknownPlan, PlanNotSold."""
    plans = config.document(PLANS)
    found = plans.find(plan)
    if found is None or found.withdrawn:
        raise UnknownPlan(plan, [listed.name for listed in plans.listed() if listed.prices])
    price = found.price(interval, currency)
    price_id = None if price is None else price.stripe_price(environment)
    if price is None or price_id is None:
        raise PlanNotSold(plan, interval, currency)
    return Offered(Terms(found, interval), price, price_id)
