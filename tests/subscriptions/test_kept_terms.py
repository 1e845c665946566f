"""The markup and the discount that an account keeps from its subscription's terms."""

from uuid import UUID

import pytest

from app.db.version_mark import VersionMark
from app.plans.document import Plan
from app.subscriptions.settlement import TERMS_SINCE
from tests.subscriptions.conftest import SOLD, Business, Customer
from tests.subscriptions.test_settlement import DAY, FEB, JAN, MAR, SECOND, bought, renewed


def with_percents(of: Plan, markup: str, discount: str) -> Plan:
    return of.model_copy(update={"markup_percent": markup, "purchase_discount_percent": discount})


async def kept(business: Business, account_id: UUID) -> tuple[float | None, ...]:
    state = await business.billing.accounts.state(account_id)
    found = (state["plan_markup_percent"], state["plan_discount_percent"])
    return tuple(None if value is None else float(value) for value in found)


async def test_markup_and_discount_are_those_of_the_terms_in_force(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    free, standard, pro = SOLD
    business.set_plans(free, with_percents(standard, "20.5", "10"), with_percents(pro, "-5", "0"))
    await business.deliver(*bought(one)[:2])
    assert await kept(business, account_id) == (20.5, 10)
    business.set_plans(free, with_percents(standard, "50", "0"), with_percents(pro, "-5", "0"))
    await business.deliver(*bought(one)[2:], *renewed(one))
    assert await kept(business, account_id) == (20.5, 10)
    upgraded = FEB + DAY
    rest = one.line((upgraded, MAR), "price_pro", 2900, proration=True)
    await business.deliver(
        one.state("updated", upgraded, SECOND, "price_pro", started_at=JAN), one.invoice("paid", 3, upgraded, rest)
    )
    await business.settle(account_id, upgraded)
    assert (await business.plan_of(account_id), await kept(business, account_id)) == ("pro", (-5, 0))
    ended = FEB + 2 * DAY
    await business.deliver(one.state("deleted", ended, SECOND, "price_pro", status="canceled", ended_at=ended))
    assert (await business.plan_of(account_id), await kept(business, account_id)) == ("free", (None, None))


async def test_terms_are_kept_on_the_account_once_no_older_version_runs(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await business.account()
    free, standard, pro = SOLD
    business.set_plans(free, with_percents(standard, "20", "10"), pro)
    with monkeypatch.context() as upgrading:
        upgrading.setattr(VersionMark, "excludes", lambda self, revision: revision < TERMS_SINCE)
        await business.deliver(*bought(Customer(account_id)))
        assert (await business.plan_of(account_id), await kept(business, account_id)) == ("standard", (None, None))
    await business.settle(account_id, business.now)
    assert await kept(business, account_id) == (20, 10)
