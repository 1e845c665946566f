"""The default limits of a plan come and go with its subscription."""

from typing import Any

from app.limits.service import NewLimit
from app.plans.document import DefaultLimit
from tests.subscriptions.conftest import SOLD, Business, Customer, priced
from tests.subscriptions.made import PRO, STANDARD
from tests.subscriptions.test_settlement import DAY, FEB, FIRST, JAN, bought


async def test_limits_of_a_plan_come_and_go_with_it_and_leave_those_of_admins(business: Business) -> None:
    def limited(one: Any, dollars: str) -> Any:
        limits = [
            DefaultLimit(window="day", unit="USD", amount=dollars),
            DefaultLimit(window="hour", unit="credits", amount="9"),
            DefaultLimit(window="day", unit="EUR", amount="9"),
        ]
        return priced(one.model_copy(update={"default_limits": limits}), 2000, 20_000)

    business.set_plans(SOLD[0], limited(STANDARD, "10"), limited(PRO, "20"))
    account_id = await business.account()
    now = business.now

    async def limits() -> dict[tuple[str, str], int]:
        return {(one.window, one.unit): one.amount for one in await business.limits.list(account_id, now)}

    one = Customer(account_id)
    await business.deliver(*bought(one))
    assert await limits() == {("hour", "credit"): 9, ("day", "USD"): 10 * 10**9}
    await business.limits.put(account_id, NewLimit("account", "", "hour", "credit", 3, "refuse"), "operator", now)
    await business.deliver(
        one.state("updated", JAN + DAY, FIRST, "price_pro"),
        one.invoice("paid", 2, JAN + DAY, one.line((JAN + DAY, FEB), "price_pro", 2500, proration=True)),
        now=JAN + 2 * DAY,
    )
    assert await business.plan_of(account_id) == "pro"
    assert await limits() == {("hour", "credit"): 3, ("day", "USD"): 20 * 10**9}
    await business.deliver(
        one.state("deleted", JAN + 3 * DAY, FIRST, "price_pro", status="canceled", ended_at=JAN + 3 * DAY)
    )
    assert await limits() == {("hour", "credit"): 3}


async def test_limits_of_a_plan_that_ended_while_the_account_was_closed_go_with_its_reopening(
    business: Business,
) -> None:
    limited = STANDARD.model_copy(update={"default_limits": [DefaultLimit(window="day", unit="USD", amount="10")]})
    business.set_plans(SOLD[0], priced(limited, 2000, 20_000))
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    await business.billing.accounts.set_status(account_id, "closed", None, business.now)
    await business.deliver(one.state("deleted", JAN + DAY, FIRST, status="canceled", ended_at=JAN + DAY))
    await business.billing.accounts.set_status(account_id, "active", None, business.now)
    assert len(await business.limits.list(account_id, business.now)) == 1
    await business.settle(account_id, business.now)
    assert await business.limits.list(account_id, business.now) == []
