"""Stripe under the contract: the local Stripe, which the service calls by the official SDK."""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx

from app.demo.stripe.webhooks import signature
from app.payments.stripe_http import TracedHttp
from app.payments.stripe_objects import HANDLED
from tests.payments.contract.provider import Event, Goods
from tests.servers import LocalStripe, running_stripe

VISA, LATER = "pm_card_visa", "pm_card_processing"


class Stripe:
    """No webhook is delivered automatically: the cases deliver them."""

    sells: Sequence[Goods] = ("credits", "money", "refill", "subscription")
    calls: tuple[type, str] = (TracedHttp, "request_async")
    local: LocalStripe
    _http: httpx.AsyncClient
    _last: str | None = None
    """The latest event that was returned."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"stripe_live": self.local.keys, "stripe_api_base": self.local.url, "stripe_timeout_s": 20}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with running_stripe() as self.local:
            headers = {"Authorization": f"Bearer {self.local.secret_key}"}
            async with httpx.AsyncClient(base_url=self.local.url, headers=headers, timeout=20) as self._http:
                yield

    async def _control(self, path: str, **fields: Any) -> Any:
        answer = await self._http.post(f"/_control/{path}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def _post(self, path: str, **fields: Any) -> Any:
        answer = await self._http.post(f"/v1/{path}", data=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def price_of(self, plan: str, minor: int) -> str:
        fields = {"recurring[interval]": "month", "product_data[name]": plan}
        return str((await self._post("prices", currency="usd", unit_amount=minor, **fields))["id"])

    async def pay(self, goods: Goods, opened: str, *, later: bool = False) -> str:
        method = LATER if later else VISA
        if goods == "credits":
            return str((await self._post(f"payment_intents/{opened}/confirm", payment_method=method))["id"])
        return str((await self._control(f"checkout_sessions/{opened}/pay", method=method))["id"])

    async def arrive(self, payment: str, *, minor: int | None = None, currency: str | None = None) -> None:
        await self._control(f"payment_intents/{payment}/succeed", amount_received=minor, currency=currency)

    async def save_card(self, page: str) -> None:
        await self._control(f"checkout_sessions/{page}/pay", method=VISA)

    async def refund(self, payment: str, minor: int) -> None:
        await self._post("refunds", payment_intent=payment, amount=minor)

    async def dispute(self, payment: str, minor: int) -> str:
        return str((await self._control(f"payment_intents/{payment}/dispute", amount=minor))["id"])

    async def decide(self, dispute: str, outcome: Literal["won", "lost"]) -> None:
        await self._control(f"disputes/{dispute}/close", outcome=outcome)

    async def new_events(self) -> list[Event]:
        events = await self._events()
        self._last = events[-1]["id"] if events else self._last
        return [event for event in events if event["type"] in HANDLED]

    async def _events(self) -> list[Event]:
        after = {} if self._last is None else {"ending_before": self._last}
        answer = await self._http.get("/v1/events", params={"limit": 100, **after})
        assert answer.json()["has_more"] is False
        events: list[Event] = answer.json()["data"]
        return events[::-1]

    def webhook(self, event: Event) -> tuple[bytes, str]:
        payload = json.dumps(event).encode()
        return payload, signature(self.local.webhook_secret, payload, int(time.time()))

    async def payments(self) -> list[str]:
        events = await self._events()
        return [e["data"]["object"]["id"] for e in events if e["type"] == "payment_intent.succeeded"]
