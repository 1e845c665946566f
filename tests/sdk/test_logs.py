"""Logs and propagated headers: enough to follow a call, nothing about the person."""

import asyncio
import logging

import httpx
import pytest
from opentelemetry import propagate
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from ciris_billing import AsyncBillingClient, BillingClient, InsufficientCredits, User
from tests.sdk.conftest import QUICK, Faulty, Service
from tests.sdk.reactions import Reaction


async def test_no_log_line_names_the_person(
    faulty: Faulty, service: Service, who: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    named = User(who.oauth_provider, who.external_id, customer_email="ada@example.com", display_name="Ada Lovelace")
    async with AsyncBillingClient(faulty.url, service.keys.agent, options=QUICK) as client:
        faulty.reactions = [Reaction(503)]
        await client.check_credit(named)
        await client.get_account(who)
        await client.transaction_page(who)
        await client.tool_balance("web_search", who)
        with pytest.raises(InsufficientCredits):
            await client.charge(who, interaction_id="1", amount_minor=900)

    def blocking() -> None:
        with BillingClient(faulty.url, service.keys.agent) as client:
            client.get_account(who)

    await asyncio.to_thread(blocking)
    text = "\n".join(str(vars(record)) + record.getMessage() for record in caplog.records)
    for secret in (who.external_id.split(":")[1], "ada@example.com", "Lovelace", service.keys.agent):
        assert secret not in text
    lines = [vars(record) for record in caplog.records if record.name == "ciris_billing"]
    assert [line["billing_operation"] for line in lines[:3]] == ["check_credit", "check_credit", "get_account"]
    failed, repeated = lines[:2]
    assert (failed["levelname"], failed["billing_status"], failed["billing_attempt"]) == ("WARNING", 503, 1)
    assert (repeated["levelname"], repeated["billing_attempt"]) == ("DEBUG", 2)
    assert failed["billing_request_id"] == repeated["billing_request_id"]
    assert "billing_code" not in repeated


async def test_httpx_still_logs_the_host_s_own_requests(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpx")
    async with httpx.AsyncClient() as client:
        await client.get(faulty.url + "/health")
    assert [record.name for record in caplog.records if record.name == "httpx"]


async def test_trace_context_travels(faulty: Faulty, service: Service, who: User) -> None:
    """OpenTelemetry's own propagation, because it is installed here; nothing was configured."""
    assert propagate.get_global_textmap() is not None
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(context)):
        async with AsyncBillingClient(faulty.url, service.keys.agent) as client:
            await client.check_credit(who)
    assert faulty.requests[0]["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
