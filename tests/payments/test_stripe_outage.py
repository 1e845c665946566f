"""While Stripe answers no one, its circuit breaker admits one call at a time."""

import asyncio

import pytest

from app.payments.errors import PaymentNotFound, PaymentProviderUnavailable
from app.payments.stripe_gateway import UNANSWERED_CALLS, StripeGateway
from tests.chaos.proxy import Proxy
from tests.payments.conftest import Shop


async def test_an_unreachable_stripe_gets_one_call_at_a_time_and_is_found_when_it_is_back(shop: Shop) -> None:
    _, _, address = shop.local.url.rpartition("/")
    host, _, port = address.partition(":")
    proxy = Proxy(host, int(port))
    await proxy.start()
    settings = shop.settings.model_copy(update={"stripe_api_base": f"http://127.0.0.1:{proxy.port}"})
    gateway = StripeGateway(settings, shop.billing.configuration)
    try:
        proxy.refuses = True
        for _ in range(UNANSWERED_CALLS):
            with pytest.raises(PaymentProviderUnavailable):
                await gateway.retrieve_payment_intent("live", "pi_nobody", at=shop.now)
        before = proxy.accepted
        for _ in range(20):
            with pytest.raises(PaymentProviderUnavailable):
                await gateway.retrieve_payment_intent("live", "pi_nobody", at=shop.now)
        assert proxy.accepted <= before + 3  # one probe at most, with its retries
        proxy.heal()
        async with asyncio.timeout(30):
            while True:
                try:
                    await gateway.retrieve_payment_intent("live", "pi_nobody", at=shop.now)
                except PaymentNotFound:
                    break
                except PaymentProviderUnavailable:
                    await asyncio.sleep(0.05)
    finally:
        await gateway.close()
        await proxy.stop()
