"""The HTTP client of Stripe's SDK, with metrics and traces, declines as answers, and keys that fit its headers."""

import re
import time
from collections.abc import Awaitable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import stripe

from app.observability import tracing
from app.observability.metrics import STRIPE_SECONDS

OBJECT_ID = re.compile(r"/(?:pi|ch|py|re|evt|acct|du|dp|cs_live|cs_test|cus|sub|in|inpay|pm|seti)_[^/?]+")
PLAIN_KEY = re.compile("[!-~]([ -~]{0,198}[!-~])?")


class TracedHttp(stripe.HTTPXClient):
    """The SDK's HTTP client, which times and traces each attempt and passes the trace on to Stripe."""

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        operation = f"{method.upper()} {OBJECT_ID.sub('/{id}', urlsplit(url).path)}"
        outcome, started = "none", time.perf_counter()
        try:
            with tracing.outgoing(f"stripe {operation}", {"http.request.method": method.upper()}):
                sent = {**headers, **tracing.headers()}
                answer: tuple[bytes, int, Mapping[str, str]] = await super().request_async(method, url, sent, post_data)
            outcome = f"{answer[1] // 100}xx"
            return answer
        finally:
            STRIPE_SECONDS.labels(operation, outcome).observe(time.perf_counter() - started)


async def with_declines(call: "Awaitable[stripe.PaymentIntent]") -> Mapping[str, Any]:
    """Return the payment that a call creates or confirms, also if Stripe answers 402: its card was declined."""
    try:
        return (await call).to_dict()
    except stripe.CardError as error:
        body: Any = error.json_body
        declined = (body or {}).get("error", {}).get("payment_intent")
        if not isinstance(declined, Mapping):
            raise
        return declined


def request_key(idempotency_key: str) -> str:
    """Return the key, or its digest when it does not fit Stripe's header: 255 plain characters with our prefix."""
    return idempotency_key if PLAIN_KEY.fullmatch(idempotency_key) else sha256(idempotency_key.encode()).hexdigest()
