"""The billing portal of the local Stripe: its page cancels, resumes, and changes the card."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.billing import customer, found, item, price, subscribe
from tests.demo.stripe_server.sdk import TIMEOUT_S, event_types, refused, saved_card
from tests.servers import LocalStripe

BACK = "https://shop.example/account"


@pytest.fixture
async def buyer(client: stripe.StripeClient) -> str:
    return await customer(client)


@pytest.fixture
async def made(client: stripe.StripeClient, buyer: str) -> stripe.Subscription:
    return await subscribe(client, buyer, await price(client))


@pytest.fixture
async def session(client: stripe.StripeClient, buyer: str) -> stripe.billing_portal.Session:
    return await client.v1.billing_portal.sessions.create_async({"customer": buyer, "return_url": BACK})


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, follow_redirects=True) as made:
        yield made


def path(session: stripe.billing_portal.Session, rest: str) -> str:
    return session.url.replace("?", f"/{rest}?")


async def test_the_page_cancels_and_resumes(
    client: stripe.StripeClient,
    browser: httpx.AsyncClient,
    session: stripe.billing_portal.Session,
    made: stripe.Subscription,
) -> None:
    page = (await browser.get(session.url)).text
    assert "Plan of 2000" in page
    assert "20.00 USD each month. Status: active. Renews on" in page
    assert BACK in page
    after = await browser.post(path(session, f"{made.id}/cancel"))
    assert "Resume subscription" in after.text
    canceling = await found(client, made)
    assert (canceling.cancel_at_period_end, canceling.cancel_at) == (True, item(made).current_period_end)
    assert "Cancel subscription" in (await browser.post(path(session, f"{made.id}/resume"))).text
    assert (await found(client, made)).cancel_at is None
    names = await event_types(client)
    assert names[-2:] == ["customer.subscription.updated"] * 2
    assert "billing_portal.session.created" in names


@pytest.mark.parametrize(
    ("card", "decision", "changes"),
    [
        ("pm_card_mastercard", None, True),
        ("pm_card_authenticationRequired", "succeed", True),
        ("pm_card_authenticationRequired", "fail", False),
        ("pm_card_chargeDeclined", None, False),
    ],
)
async def test_the_page_changes_the_card(
    client: stripe.StripeClient,
    browser: httpx.AsyncClient,
    buyer: str,
    session: stripe.billing_portal.Session,
    card: str,
    decision: str | None,
    changes: bool,
) -> None:
    old = await saved_card(client, buyer)
    made = await subscribe(client, buyer, await price(client), default_payment_method=old.id)
    await browser.post(path(session, "card"), data={"payment_method": card})
    if decision is not None:
        await browser.post(path(session, f"bank/{decision}"))
    now = await client.v1.customers.retrieve_async(buyer, {"expand": ["invoice_settings.default_payment_method"]})
    assert now.invoice_settings is not None
    method = now.invoice_settings.default_payment_method
    assert isinstance(method, stripe.PaymentMethod)
    default = (await found(client, made)).default_payment_method
    assert default == (method.id if changes else old.id)
    if changes:
        assert method.customer == buyer
        assert (await event_types(client))[-2:] == ["customer.updated", "customer.subscription.updated"]


@pytest.mark.parametrize("rest", ["card", "sub_none/cancel", "{id}/destroy"])
async def test_invalid_actions_are_refused(
    browser: httpx.AsyncClient, session: stripe.billing_portal.Session, made: stripe.Subscription, rest: str
) -> None:
    url = path(session, rest.format(id=made.id))
    assert (await browser.post(url, data={"payment_method": "pm_none"})).status_code in (400, 404)


@pytest.mark.parametrize("secret", ["other", "%C3%A9"])
async def test_another_secret_opens_no_page(
    browser: httpx.AsyncClient, session: stripe.billing_portal.Session, made: stripe.Subscription, secret: str
) -> None:
    address = session.url.split("?")[0]
    assert (await browser.get(f"{address}?secret={secret}")).status_code == 404
    assert (await browser.get(f"{address}x?secret={secret}")).status_code == 404
    assert (await browser.post(f"{address}/{made.id}/cancel?secret={secret}")).status_code == 404


async def test_another_customers_subscription_is_not_in_the_portal(
    client: stripe.StripeClient, browser: httpx.AsyncClient, session: stripe.billing_portal.Session
) -> None:
    others = await subscribe(client, await customer(client), await price(client))
    assert (await browser.post(path(session, f"{others.id}/cancel"))).status_code == 404
    assert (await found(client, others)).cancel_at is None


@pytest.mark.parametrize("changed", [{"customer": "cus_none"}, {"customer": ""}, {"return_url": "no address"}])
async def test_invalid_sessions_are_refused(client: stripe.StripeClient, buyer: str, changed: Any) -> None:
    params: Any = {"customer": buyer, **changed}
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.billing_portal.sessions.create_async(params)


async def test_the_overview_lists_subscriptions(
    browser: httpx.AsyncClient, local: LocalStripe, made: stripe.Subscription
) -> None:
    for _ in range(1200):  # events are listed once they are delivered
        page = (await browser.get(local.url)).text
        if "customer.subscription.created" in page:
            break
        await asyncio.sleep(0.05)
    assert made.id in page
    assert "customer.subscription.created" in page
