"""Plans of the demo: the shipped ones, with prices at the local Stripe, so that `make run` sells subscriptions."""

import json
from collections.abc import Mapping

import stripe
from pydantic import SecretStr

from app.auth.admins.admins import SYSTEM_ADMIN_ID, ensure_system_admin
from app.auth.caller import Environment
from app.clock import utc_now
from app.configuration.editing import Change, ConfigurationEditor
from app.configuration.sections import PLANS
from app.db import Database
from app.plans.document import Plan, PlanPrice, Plans
from app.settings import Settings

ENVIRONMENTS: tuple[Environment, ...] = ("live", "test")


async def sell_plans(env: Mapping[str, str]) -> None:
    """Create prices at the local Stripe, and write their ids into the plans. No effect once the plans were set."""
    settings = Settings.model_validate({"mode": "demo", "database_url": SecretStr(env["DATABASE_URL"])})
    db = Database(settings.database_url, pool_size=1)
    editor = ConfigurationEditor(settings)
    try:
        async with db.read() as session:
            found = await editor.find(session, PLANS)
        if found.version:
            return
        shipped = Plans.model_validate(found.document)
        sold = Plans(plans=[_with_prices(plan, env) for plan in shipped.plans])
        now = utc_now()
        async with db.transaction() as tx:
            await ensure_system_admin(tx, now)
            change = Change(0, "Prices at the local Stripe", "demo", SYSTEM_ADMIN_ID, now)
            await editor.change(tx, PLANS, sold.model_dump(mode="json"), change)
    finally:
        await db.close()


def _with_prices(plan: Plan, env: Mapping[str, str]) -> Plan:
    prices = []
    for price in plan.prices:
        ids = {f"stripe_price_{environment}": _price_id(plan, price, environment, env) for environment in ENVIRONMENTS}
        prices.append(price.model_copy(update=ids))
    return plan.model_copy(update={"prices": prices})


def _price_id(plan: Plan, price: PlanPrice, environment: Environment, env: Mapping[str, str]) -> str:
    """Return the id of a price at the local Stripe. Creates it if it does not exist."""
    keys = json.loads(env[f"STRIPE_{environment.upper()}"])
    client = stripe.StripeClient(keys["secret_key"], base_addresses={"api": env["STRIPE_API_BASE"]})
    lookup_key = f"{plan.name}_{price.interval}_{price.currency.lower()}"
    for known in client.v1.prices.list({"lookup_keys": [lookup_key]}).data:
        return known.id
    created = client.v1.prices.create(
        {
            "currency": price.currency.lower(),
            "unit_amount": price.amount_minor,
            "recurring": {"interval": price.interval},
            "product_data": {"name": f"Plan {plan.title}"},
            "lookup_key": lookup_key,
        }
    )
    return created.id
