"""Outages, lost answers and nonsense in between: which calls are retried, for how long, and that each is paid once."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from ciris_billing import (
    AsyncBillingClient,
    BillingClient,
    BillingError,
    InsufficientCredits,
    InvalidReply,
    InvalidRequest,
    Options,
    PermissionDenied,
    RateLimited,
    Retry,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
    User,
)
from ciris_billing._retry import COOLDOWN_S, Hosts, retry_after_s
from ciris_billing._wire import MAX_ANSWER_BYTES
from tests.sdk.conftest import QUICK, Faulty, Service
from tests.sdk.reactions import Reaction
from tests.servers import free_port

LOST = Reaction(None, forward=True)
"""The service does what it is asked, and the answer never arrives."""


@pytest.mark.parametrize("reaction", [LOST, Reaction(502, forward=True), Reaction(503), Reaction(504), Reaction(None)])
async def test_charge_is_taken_once_whatever_becomes_of_its_answer(
    troubled: Any, faulty: Faulty, who: User, reaction: Reaction
) -> None:
    faulty.reactions = [reaction, reaction]
    charge = await troubled.charge(who, interaction_id="1")
    assert len(faulty.requests) == 3
    assert len({request["body"] for request in faulty.requests}) == 1
    assert len({request["x-request-id"] for request in faulty.requests}) == 1
    assert charge.replayed is reaction.forward
    assert (await troubled.check_credit(who)).total_uses == 1


async def test_tool_charge_and_credits_are_taken_once(
    faulty: Faulty, service: Service, troubled: Any, who: User
) -> None:
    faulty.reactions = [LOST]
    assert (await troubled.tool_charge("web_search", who, call_id="1")).free_remaining == 9
    async with AsyncBillingClient(faulty.url, service.keys.credit, options=QUICK) as minter:
        faulty.reactions = [LOST]
        assert (await minter.add_credits(who, amount_minor=500, idempotency_key="1")).replayed
    assert (await troubled.check_credit(who)).credits_remaining == 5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (402, InsufficientCredits),
        (403, PermissionDenied),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, ServerError),
        (302, InvalidReply),
    ],
)
async def test_other_answers_are_final(
    troubled: Any, faulty: Faulty, who: User, status: int, error: type[BillingError]
) -> None:
    faulty.reactions = [Reaction(status, headers={"Location": "/elsewhere"})]
    with pytest.raises(error) as raised:
        await troubled.charge(who, interaction_id="1")
    assert (raised.value.status, len(faulty.requests)) == (status, 1)
    assert raised.value.request_id == faulty.requests[0]["x-request-id"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"charge_id": 1}', b"[" * 100_000, b"\xff\xfe"])
async def test_nonsense_is_no_success(troubled: Any, faulty: Faulty, who: User, body: bytes) -> None:
    faulty.reactions = [Reaction(200, body)]
    with pytest.raises(InvalidReply) as raised:
        await troubled.charge(who, interaction_id="1")
    assert who.external_id not in str(raised.value)


async def test_endless_answer_is_cut_off(troubled: Any, faulty: Faulty, who: User) -> None:
    faulty.reactions = [Reaction(200, b" " * (MAX_ANSWER_BYTES + 1))]
    assert (await troubled.check_credit(who)).has_credit
    assert len(faulty.requests) == 2


async def test_usage_report_is_repeated_only_if_it_cannot_have_arrived(
    troubled: Any, faulty: Faulty, who: User
) -> None:
    report: dict[str, Any] = {
        "interaction_id": "i",
        "total_llm_calls": 1,
        "total_prompt_tokens": 1,
        "total_completion_tokens": 1,
        "models_used": ["m"],
        "actual_cost_cents": 0.5,
        "duration_ms": 1,
    }
    faulty.reactions = [Reaction(429), LOST]
    with pytest.raises(ServiceUnavailable) as raised:
        await troubled.report_llm_usage(who, **report)
    assert (raised.value.code, len(faulty.requests)) == ("network_error", 2)


async def test_retry_after_is_honoured(troubled: Any, faulty: Faulty, who: User) -> None:
    faulty.reactions = [Reaction(429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    await troubled.check_credit(who)
    assert 1 <= time.monotonic() - started < 3


async def test_waiting_longer_than_the_deadline_is_not_begun(troubled: Any, faulty: Faulty, who: User) -> None:
    faulty.reactions = [Reaction(429, b'{"detail": "Too many", "code": "rate_limited"}', {"Retry-After": "60"})]
    started = time.monotonic()
    with pytest.raises(RateLimited) as raised:
        await troubled.check_credit(who)
    assert (raised.value.retry_after, raised.value.code, len(faulty.requests)) == (60, "rate_limited", 1)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("reaction", [Reaction(503, slow_s=0.5), Reaction(200, b" " * 90, drip_s=0.02)])
async def test_deadline_holds_against_a_slow_service(
    faulty: Faulty, service: Service, who: User, blocking: bool, reaction: Reaction
) -> None:
    faulty.reactions = [reaction] * 9
    options = Options(timeout_s=0.2, deadline_s=0.5, retry=Retry(attempts=9, first_wait_s=0.01))

    async def check() -> None:
        if blocking:
            with BillingClient(faulty.url, service.keys.agent, options=options) as client:
                await asyncio.to_thread(client.check_credit, who)
        else:
            async with AsyncBillingClient(faulty.url, service.keys.agent, options=options) as awaited:
                await awaited.check_credit(who)

    started = time.monotonic()
    with pytest.raises(ServiceUnavailable) as raised:
        await check()
    assert (raised.value.code, raised.value.status) == ("timeout", None)
    assert time.monotonic() - started < 2
    assert isinstance(raised.value.__cause__, httpx.TimeoutException)


async def test_another_region_takes_over_and_the_first_one_rests(faulty: Faulty, service: Service, who: User) -> None:
    options = Options(fallback_urls=[service.url], retry=Retry(first_wait_s=60))
    async with AsyncBillingClient(faulty.url, service.keys.agent, options=options) as client:
        faulty.reactions = [LOST]
        started = time.monotonic()
        assert (await client.charge(who, interaction_id="1")).replayed
        assert (await client.check_credit(who)).total_uses == 1
    assert time.monotonic() - started < 2
    assert len(faulty.requests) == 1


async def test_refused_connection_is_an_outage(service: Service, who: User) -> None:
    async with AsyncBillingClient(f"http://127.0.0.1:{free_port()}", "key", options=QUICK) as client:
        with pytest.raises(ServiceUnavailable) as raised:
            await client.check_credit(who)
    assert raised.value.code == "network_error"
    assert raised.value.request_id


async def test_waiting_for_a_purchase_bears_an_outage(troubled: Any, faulty: Faulty, service: Service) -> None:
    who = User("oauth:google", f"outage-{time.monotonic_ns()}")
    purchase = await troubled.create_purchase(who)
    await asyncio.to_thread(service.pay, purchase.payment_id, purchase.client_secret)
    faulty.reactions = [Reaction(503) for _ in range(QUICK.retry.attempts)]
    assert (await troubled.wait_for_purchase(purchase.payment_id, who, timeout_s=10)).credits_added == 20


def test_waits_are_drawn_from_a_doubling_range() -> None:
    retry = Retry(first_wait_s=0.5, longest_wait_s=3)
    assert [retry.wait_s(failures, None, lambda: 1.0) for failures in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 3, 3]
    assert retry.wait_s(3, None, lambda: 0.25) == 0.5
    assert retry.wait_s(1, 7.0, lambda: 0.0) == 7
    assert 7 < retry.wait_s(5, 7.0, lambda: 1.0) <= 7.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 400}, float("inf")),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 +99999999999999999999", "date": "x"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 60),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT", "date": "Thu, 01 Jan 2026 00:01:00 GMT"}, 0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_failed_hosts_rest() -> None:
    hosts = Hosts(["http://a/", "http://b"])
    assert hosts.choose(0) == "http://a"
    hosts.failed("http://a", 0)
    assert (hosts.choose(1), hosts.has_healthy_host(1)) == ("http://b", True)
    hosts.failed("http://b", 2)
    assert (hosts.choose(3), hosts.has_healthy_host(3)) == ("http://a", False)
    assert hosts.choose(COOLDOWN_S + 1) == "http://a"
