"""The HTTP client of Stripe's SDK, with metrics and traces, and keys that fit its headers."""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import stripe

from app.observability import tracing
from app.observability.metrics import STRIPE_SECONDS

OBJECT_ID = re.compile(r"/(?:pi|ch|py|re|evt|acct|du|dp)_[^/?]+")
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


def request_key(idempotency_key: str) -> str:
    """Return the key, or its digest when it does not fit Stripe's header: 255 plain characters with our prefix."""
    return idempotency_key if PLAIN_KEY.fullmatch(idempotency_key) else sha256(idempotency_key.encode()).hexdigest()
