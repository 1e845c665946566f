"""Scenarios in LiteLLM's environment whose calls are usage events."""

import contextlib
import os
import tempfile
from datetime import UTC, datetime

import litellm

from ciris_billing import BillingClient, InsufficientMoney, UsageEvent, User
from ciris_billing.litellm import LiteLLMBilling, metadata_of
from ciris_billing.reporter import UsageReporter
from tests.sdk.litellm_support import ask, call, prompts, use, who


async def metered(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Each successful call is a usage event too; the interaction's credits and reports are as without."""
    user, events = who("metered"), list[UsageEvent]()

    class Sink:
        def report(self, event: UsageEvent) -> str:
            events.append(event)
            return event.event_id

    use(LiteLLMBilling(client, usage=Sink()))
    named = {**metadata_of(user, "i-1"), "agent_id": "datum", "session_id": "chat-1", "tool": "x" * 300}
    await ask("hello", named, litellm_call_id="call-1")
    await ask("hello", named | {"run_id": "run-1"}, litellm_call_id="call-2")
    with contextlib.suppress(litellm.InternalServerError):
        await ask("fail", named)
        raise AssertionError("not failed")
    assert client.check_credit(user).total_uses == 1
    bodies = [event.body() for event in events]
    for body in bodies:
        metric = body.pop("metric")
        assert (metric["provider"], metric["model"], metric["basis"]) == ("openai", "gpt-4o-mini", "inclusive")
        assert (metric["usage"]["prompt_tokens"], metric["usage"]["completion_tokens"]) == (1000, 100)
        assert abs((datetime.now(UTC) - datetime.fromisoformat(body.pop("time"))).total_seconds()) < 60
    both = {"oauth_provider": "oauth:litellm", "external_id": "metered@example.com"}
    both |= {"agent_id": "datum", "conversation": "chat-1"}
    assert bodies == [
        {**both, "event_id": "call-1", "run_id": "i-1", "request_id": "call-1"},
        {**both, "event_id": "call-2", "run_id": "run-1", "request_id": "call-2"},
    ]


async def money_only(client: BillingClient, billing: LiteLLMBilling) -> None:
    """No credits: a user without money is refused, and another pays by usage events, through a queue on disk."""
    url, key = os.environ["USAGE_URL"], os.environ["USAGE_API_KEY"]
    rich, poor = (User("oauth:zero", os.environ[name]) for name in ("RICH", "POOR"))
    with (
        tempfile.TemporaryDirectory() as folder,
        BillingClient(url, key) as payments,
        UsageReporter(url, key, folder) as reporter,
    ):
        paid = LiteLLMBilling(payments, amount_minor=None, usage=reporter)
        use(paid)
        await ask("hello", metadata_of(rich, "i-1"))
        async with paid.interaction(rich, "i-2") as metadata:
            await litellm.acompletion(**call("two", metadata))
        models_asked = len(prompts)
        for refused in (lambda: ask("refused", metadata_of(poor, "i")), paid.interaction(poor, "i").__aenter__):
            try:
                await refused()
            except InsufficientMoney as error:
                assert error.required_cents == 1
            else:
                raise AssertionError("not refused")
        assert len(prompts) == models_asked
        assert reporter.flush(20)
        assert reporter.refused() == []
