"""A Stripe that answers nobody is asked by one caller at a time."""

import asyncio

import pytest

from app.payments.circuit_breaker import PAUSE_S, SILENCES, Breaker
from app.payments.errors import PaymentNotFound, PaymentProviderUnavailable
from app.payments.gateway import StripeGateway
from tests.chaos.proxy import Proxy
from tests.payments.conftest import Shop

TRIAL_S = 3.0


def silenced(at_s: float) -> Breaker:
    breaker = Breaker(trial_s=TRIAL_S)
    for _ in range(SILENCES):
        assert breaker.admits(at_s)
        breaker.silent(at_s)
    return breaker


def test_one_caller_at_a_time_finds_out_whether_it_answers_again() -> None:
    breaker = silenced(100.0)
    assert not breaker.admits(100.0)
    assert not breaker.admits(100.0 + PAUSE_S - 0.1)
    assert breaker.admits(101.0)
    assert not breaker.admits(101.0)
    breaker.silent(103.0)
    assert not breaker.admits(103.0)
    assert breaker.admits(104.0)
    breaker.answered()
    assert all(breaker.admits(104.0) for _ in range(10))


def test_a_caller_who_goes_away_without_a_word_bars_nobody_for_long() -> None:
    breaker = silenced(0.0)
    assert breaker.admits(10.0)
    assert not breaker.admits(10.0 + TRIAL_S)
    assert breaker.admits(10.0 + TRIAL_S + PAUSE_S)


def test_an_answer_in_between_means_that_it_is_there() -> None:
    breaker = Breaker(trial_s=TRIAL_S)
    for _ in range(10):
        for _ in range(SILENCES - 1):
            breaker.silent(0.0)
        breaker.answered()
        assert breaker.admits(0.0)


async def test_an_absent_stripe_is_not_asked_by_everybody_and_found_when_it_is_back(shop: Shop) -> None:
    _, _, address = shop.local.url.rpartition("/")
    host, _, port = address.partition(":")
    proxy = Proxy(host, int(port))
    await proxy.start()
    settings = shop.settings.model_copy(update={"stripe_api_base": f"http://127.0.0.1:{proxy.port}"})
    gateway = StripeGateway(settings, shop.billing.configuration)
    try:
        proxy.refuses = True
        for _ in range(SILENCES):
            with pytest.raises(PaymentProviderUnavailable):
                await gateway.retrieve_payment_intent("live", "pi_nobody", at=shop.now)
        asked = proxy.accepted
        for _ in range(20):
            with pytest.raises(PaymentProviderUnavailable):
                await gateway.retrieve_payment_intent("live", "pi_nobody", at=shop.now)
        assert proxy.accepted <= asked + 3  # one trial, at most, with its retries
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
