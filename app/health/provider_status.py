"""Provider status: whether PostgreSQL and Stripe answer. Checks run at most every 10 s; callers wait briefly."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from app.clock import utc_now
from app.db import Database
from app.ending import end
from app.errors import is_database_unavailable
from app.payments.errors import (
    PaymentProviderForbids,
    PaymentProviderRefused,
    PaymentProviderUnavailable,
    PaymentsNotConfigured,
)
from app.payments.stripe_gateway import StripeGateway

CACHED_S = 10.0
WAIT_S = 1.0
"""The longest that a caller waits for a check. The check continues, and its result is cached."""
SLOW_MS = 500
State = Literal["operational", "degraded", "outage"]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `message` contains no address, key or error text, because anyone may read it."""

    status: State
    latency_ms: int | None
    last_check: datetime
    message: str | None


Check = Callable[[], Awaitable[tuple[State, str | None]]]


class ProviderProbe:
    """Checks one provider and caches the latest finding. Callers share a check that is under way."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._finding: Finding | None = None
        self._checked_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def current(self) -> Finding:
        """Return the finding of the last CACHED_S, or else of a new check, waiting for it WAIT_S at most."""
        if self._finding is None or time.monotonic() - self._checked_s >= CACHED_S:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            await asyncio.wait({self._task}, timeout=WAIT_S)
            if not self._task.done():
                self._remember("degraded", None, f"{self._name} has not answered within {WAIT_S:.0f} s")
        assert self._finding is not None
        return self._finding

    def fail(self, message: str) -> None:
        """Replace the cached finding by an outage that another request has just met."""
        self._remember("outage", None, message)

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        started = time.perf_counter()
        try:
            status, message = await self._check()
        except Exception as error:  # any error: the status page itself must answer
            log.warning("provider_check_failed", provider=self._name, error=type(error).__name__)
            self._remember("outage", None, f"{self._name} does not answer")
            return
        latency_ms = round((time.perf_counter() - started) * 1000)
        if status == "operational" and message is None and latency_ms > SLOW_MS:
            status, message = "degraded", f"{self._name} answers slowly"
        self._remember(status, latency_ms if message != NOT_CONFIGURED else None, message)

    def _remember(self, status: State, latency_ms: int | None, message: str | None) -> None:
        self._finding = Finding(status, latency_ms, utc_now(), message)
        self._checked_s = time.monotonic()


NOT_CONFIGURED = "Payments are not configured"
DATABASE_DOWN = "PostgreSQL does not answer"


def postgresql_probe(db: Database) -> ProviderProbe:
    async def check() -> tuple[State, str | None]:
        try:
            await db.ping()
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            return "outage", DATABASE_DOWN
        return ("outage", "PostgreSQL accepts no writes") if db.is_read_only else ("operational", None)

    return ProviderProbe("PostgreSQL", check)


def stripe_probe(gateway: StripeGateway) -> ProviderProbe:
    async def check() -> tuple[State, str | None]:
        try:
            await gateway.ping()
        except PaymentsNotConfigured:
            return "operational", NOT_CONFIGURED
        except PaymentProviderForbids:
            return "operational", None  # Stripe answers; the key has few permissions
        except PaymentProviderRefused:
            return "outage", "Stripe refuses the configured key"
        except PaymentProviderUnavailable:
            return "outage", "Stripe does not answer"
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            return "degraded", "Unknown while PostgreSQL, which stores the keys, does not answer"
        return "operational", None

    return ProviderProbe("Stripe", check)


def overall(postgresql: Finding, stripe: Finding) -> State:
    """Return `outage` while charging is impossible. Without Stripe only purchases fail: `degraded`."""
    if postgresql.status == "outage":
        return "outage"
    return "operational" if postgresql.status == stripe.status == "operational" else "degraded"
