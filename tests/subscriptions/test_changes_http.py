"""Changes of a subscription over HTTP: upgrades, downgrades and their prices."""

import asyncio
from datetime import timedelta

import pytest

from tests.subscriptions.store import CHANGE, Buyer, Store


async def test_upgrade_costs_and_grants_the_difference_as_previewed(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    await buyer.store.pass_days(account_id, 10)
    preview = (await buyer.client.post(CHANGE, json={"plan": "pro", "preview": True})).json()
    assert (preview["effect"], preview["plan"], preview["currency"]) == ("now", "standard", "USD")
    assert 1900 <= preview["amount_due_minor"] <= 2100
    refused = await buyer.client.post(CHANGE, json={"plan": "pro"})
    assert (refused.status_code, refused.json()["code"]) == (403, "person_required")
    body = {"plan": "pro", "prorated_at": preview["prorated_at"]}
    changed = await buyer.person.post(CHANGE, json=body)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["plan"], changed.json()["monthly_credits"]) == ("pro", 6000)
    plan, cents = await buyer.balance()
    assert plan == "pro"
    assert 2500 + 2250 <= cents <= 2500 + 2450
    await buyer.store.delivered()
    assert (await buyer.person.post(CHANGE, json=body)).json()["plan"] == "pro"
    assert await buyer.balance() == (plan, cents)
    [invoice] = await buyer.store.rows(
        "SELECT amount_paid_minor FROM subscription_invoices WHERE account_id = $1 ORDER BY created_at DESC LIMIT 1",
        account_id,
    )
    assert invoice["amount_paid_minor"] == preview["amount_due_minor"]


async def test_downgrade_takes_effect_at_the_end_of_the_period(buyer: Buyer) -> None:
    await buyer.subscribe("pro")
    account_id = await buyer.account_id()
    preview = (await buyer.client.post(CHANGE, json={"plan": "standard", "preview": True})).json()
    assert (preview["effect"], preview["amount_due_minor"]) == ("period_end", 2000)
    assert preview["takes_effect_at"] == preview["current_period_end"]
    changed = (await buyer.person.post(CHANGE, json={"plan": "standard"})).json()
    assert (changed["plan"], changed["next_plan"], changed["monthly_credits"]) == ("pro", "standard", 6000)
    back = (await buyer.person.post(CHANGE, json={"plan": "pro"})).json()
    assert (back["plan"], back["next_plan"]) == ("pro", None)
    await buyer.person.post(CHANGE, json={"plan": "standard"})
    assert await buyer.balance() == ("pro", 6000)
    await buyer.store.pass_days(account_id, 31)
    await buyer.store.pass_days(account_id, 1)
    assert await buyer.balance() == ("standard", 8500)


async def test_declined_upgrade_changes_nothing(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    customer_id = await buyer.store.customer_of(account_id)
    bad = await buyer.store.stripe("POST", "payment_methods/pm_card_chargeCustomerFail/attach", customer=customer_id)
    [row] = await buyer.store.rows("SELECT subscription_id FROM subscriptions WHERE account_id = $1", account_id)
    await buyer.store.stripe("POST", f"subscriptions/{row['subscription_id']}", default_payment_method=bad["id"])
    declined = await buyer.person.post(CHANGE, json={"plan": "pro"})
    assert (declined.status_code, declined.json()["code"]) == (409, "payment_declined")
    await buyer.store.delivered()
    assert await buyer.balance() == ("standard", 2500)
    assert (await buyer.me())["next_plan"] is None


@pytest.mark.parametrize("seconds_behind", [0, 2])
async def test_year_begins_now_and_a_shorter_interval_only_after_the_end(seconds_behind: int, buyer: Buyer) -> None:
    """Also where the clock is behind the provider's. A day of a month was used, so the year grants that day's part."""
    await buyer.subscribe()
    await buyer.store.pass_days(await buyer.account_id(), 1)
    buyer.store.ahead -= timedelta(seconds=seconds_behind)
    changed = await buyer.person.post(CHANGE, json={"plan": "standard", "interval": "year"})
    assert (changed.status_code, changed.json()["interval"]) == (200, "year"), changed.text
    assert 2500 <= (await buyer.balance())[1] <= 2500 + 90
    refused = await buyer.person.post(CHANGE, json={"plan": "standard"})
    assert (refused.status_code, refused.json()["code"]) == (409, "change_not_possible")


async def test_month_that_replaces_a_year_ends_the_grants_of_the_year(buyer: Buyer) -> None:
    await buyer.subscribe("standard", "year")
    account_id = await buyer.account_id()
    await buyer.store.pass_days(account_id, 1)
    changed = await buyer.person.post(CHANGE, json={"plan": "pro"})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["plan"], changed.json()["interval"]) == ("pro", "month")
    _, cents = await buyer.balance()
    assert 6000 + 2500 // 31 <= cents <= 6000 + 2500 // 27
    for month in range(1, 4):
        await buyer.store.pass_days(account_id, 31)
        await buyer.store.pass_days(account_id, 1)
        assert await buyer.balance() == ("pro", cents + 6000 * month)


async def test_price_of_a_preview_from_before_the_period_counts_from_its_start(buyer: Buyer) -> None:
    await buyer.subscribe()
    an_hour_ago = int(buyer.store.now.timestamp()) - 3600
    changed = await buyer.person.post(CHANGE, json={"plan": "pro", "prorated_at": an_hour_ago})
    assert changed.status_code == 200, changed.text
    assert await buyer.balance() == ("pro", 6000)


async def test_declined_upgrade_keeps_the_lower_price_of_the_next_period(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    assert (await buyer.person.post(CHANGE, json={"plan": "calm"})).json()["next_plan"] == "calm"
    customer_id = await buyer.store.customer_of(account_id)
    [row] = await buyer.store.rows("SELECT subscription_id FROM subscriptions WHERE account_id = $1", account_id)
    for method, status, next_plan in (("pm_card_chargeCustomerFail", 409, "calm"), ("pm_card_visa", 200, None)):
        card = await buyer.store.stripe("POST", f"payment_methods/{method}/attach", customer=customer_id)
        await buyer.store.stripe("POST", f"subscriptions/{row['subscription_id']}", default_payment_method=card["id"])
        assert (await buyer.person.post(CHANGE, json={"plan": "pro"})).status_code == status
        await buyer.settled()
        assert (await buyer.me())["next_plan"] == next_plan
    [invoice] = await buyer.store.rows(
        "SELECT amount_paid_minor FROM subscription_invoices WHERE account_id = $1 ORDER BY created_at DESC, "
        "amount_paid_minor DESC LIMIT 1",
        account_id,
    )
    assert invoice["amount_paid_minor"] in (2999, 3000)


# --- money that returns, accounts that end ---


async def test_jobs_that_settle_accounts_at_once_do_not_wait_for_each_others_connections(store: Store) -> None:
    accounts = [await store.desk.account_id(await store.desk.user(100)) for _ in range(12)]
    settle = store.worker.subscriptions.refresher.account_changed
    async with asyncio.timeout(20):
        await asyncio.gather(*(settle(account_id, store.now) for account_id in accounts))
