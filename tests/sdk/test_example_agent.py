"""The example agent sells credits end to end: over HTTP, and in a real browser."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from example_agent import create_app
from tests.sdk.conftest import Service
from tests.servers import serving
from tests.support.browser import require_browser, walk


@pytest.fixture
def agent(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("BILLING_URL", service.url)
    monkeypatch.setenv("BILLING_API_KEY", service.keys.agent)
    monkeypatch.setenv("STRIPE_PAY_URL", service.stripe.url)
    with serving(create_app()) as url:
        yield url


async def test_whole_purchase_over_http(agent: str, service: Service) -> None:
    async with httpx.AsyncClient(base_url=agent) as ui:
        assert (await ui.post("/ask", json={"text": "hello"})).status_code == 401
        assert (await ui.post("/login", json={"name": "grace"})).status_code == 204
        answers = [await ui.post("/ask", json={"text": "hello"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 402]
        assert answers[0].json() == {"text": "You said: olleh"}
        purchase = (await ui.post("/v1/api/billing/purchase/initiate", json={"return_url": agent})).json()
        await asyncio.to_thread(service.pay, purchase["payment_id"], purchase["client_secret"])
        status = await ui.get(f"/v1/api/billing/purchase/status/{purchase['payment_id']}")
        assert status.json() == {"status": "succeeded", "credits_added": 20, "balance_after": 20}
        assert (await ui.post("/ask", json={"text": "hello"})).status_code == 200
        page = await ui.get("/")
        assert (await ui.get("/example_agent.py")).status_code == 404
    assert service.url not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Jürgen Müller", 204),
        ("  O'Neil ", 204),
        ("王秀英", 204),
        ("a" * 64, 204),
        ("a" * 65, 422),
        (" ", 422),
        ("a\0", 422),
    ],
)
async def test_people_of_any_name_sign_in_and_out(agent: str, name: str, status: int) -> None:
    async with httpx.AsyncClient(base_url=agent) as ui:
        assert (await ui.post("/login", json={"name": name})).status_code == status
        signed_in = 200 if status == 204 else 401
        assert (await ui.get("/v1/api/billing/credits")).status_code == signed_in
        cookie = ui.cookies.get("session")
        assert (await ui.post("/logout")).status_code == 204
        ui.cookies.set("session", cookie or "")  # it is worth nothing, even to a thief
        assert (await ui.get("/v1/api/billing/credits")).status_code == 401


async def test_packs_are_offered_before_the_balance_is_zero(agent: str) -> None:
    async with httpx.AsyncClient(base_url=agent) as ui:
        await ui.post("/login", json={"name": "grace h"})
        (pack,) = (await ui.get("/v1/api/billing/packs")).json()["packs"]
        assert (pack["pack"], pack["price_minor"], pack["currency_digits"]) == ("standard", 500, 2)
        body = {"pack": pack["pack"], "return_url": agent}
        bought = (await ui.post("/v1/api/billing/purchase/initiate", json=body)).json()
        assert (bought["amount_minor"], bought["uses_purchased"]) == (500, 20)
        unknown = await ui.post("/v1/api/billing/purchase/initiate", json={"pack": "no such pack"})
        assert unknown.status_code == 422


async def test_without_a_service_it_sells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILLING_URL", raising=False)
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as ui:
        await ui.post("/login", json={"name": "grace"})
        assert (await ui.get("/v1/api/billing/credits")).json()["free_uses_remaining"] == 3
        assert (await ui.get("/v1/api/billing/packs")).json() == {"packs": []}
        assert (await ui.post("/v1/api/billing/purchase/initiate")).status_code == 403


async def test_a_user_buys_in_a_browser(agent: str, tmp_path: Path) -> None:
    require_browser()
    said = await asyncio.to_thread(walk, "agent", tmp_path, BASE_URL=agent)
    assert "done: bought and asked" in said
