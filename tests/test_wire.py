"""The integration guide's flows, as its clients send them, and the exact shape of every answer."""

import httpx

from app.billing.errors import InsufficientCredits

CHECK_FIELDS = {
    "has_credit",
    "credits_remaining",
    "free_uses_remaining",
    "daily_free_uses_remaining",
    "daily_free_uses_limit",
    "total_uses",
    "plan_name",
    "reason",
    "purchase_required",
    "purchase_price_minor",
    "purchase_uses",
}
CHARGE_FIELDS = {
    "charge_id",
    "account_id",
    "amount_minor",
    "currency",
    "balance_after",
    "created_at",
    "description",
    "metadata",
}
User = dict[str, str]


def charge_of(user: User, key: str, **fields: object) -> dict[str, object]:
    return {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": key, "metadata": {}, **fields}


async def test_free_tier_flow(agent: httpx.AsyncClient, user: User) -> None:
    """Guide: a new user has three free uses, and the first charge takes one."""
    first = await agent.post("/v1/billing/credits/check", json={**user, "context": {}})
    assert first.status_code == 200
    assert set(first.json()) == CHECK_FIELDS
    assert (first.json()["has_credit"], first.json()["free_uses_remaining"]) == (True, 3)
    assert (first.json()["plan_name"], first.json()["reason"]) == ("free", None)
    charged = await agent.post("/v1/billing/charges", json=charge_of(user, "test-1", description="Test charge 1"))
    assert charged.status_code == 201
    assert set(charged.json()) == CHARGE_FIELDS
    assert set(charged.json()["metadata"]) == {"message_id", "agent_id", "channel_id", "request_id"}
    second = await agent.post("/v1/billing/check", json={**user, "context": {}})
    assert (second.json()["free_uses_remaining"], second.json()["total_uses"]) == (2, 1)


async def test_idempotency(agent: httpx.AsyncClient, user: User) -> None:
    """Guide: the second of two equal charges is a conflict that names the first, and costs nothing."""
    first = await agent.post("/v1/billing/charges", json=charge_of(user, "key", description="one"))
    second = await agent.post("/v1/billing/charges", json=charge_of(user, "key", description="another"))
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.headers["X-Existing-Charge-ID"] == first.json()["charge_id"]
    assert second.json()["detail"] == "Charge already exists"
    assert {name: second.json()[name] for name in CHARGE_FIELDS} == first.json()
    assert (await agent.post("/v1/billing/check", json=user)).json()["total_uses"] == 1


def figures_of(refused: httpx.Response) -> tuple[int, ...]:
    """The amounts of a 402, in hundredths of a credit: balance, required, shortfall, affordable."""
    names = ("balance_minor", "required_minor", "shortfall_minor", "max_affordable_minor")
    return tuple(refused.json()[name] for name in names)


async def test_refusal_has_its_figures_as_fields(agent: httpx.AsyncClient, user: User) -> None:
    refused = await agent.post("/v1/billing/charges", json=charge_of(user, "too much", amount_minor=450))
    assert refused.status_code == 402
    assert figures_of(refused) == (300, 500, 200, 300)
    affordable = refused.json()["max_affordable_minor"]
    assert (
        await agent.post("/v1/billing/charges", json=charge_of(user, "as much", amount_minor=affordable))
    ).status_code == 201


def test_an_operation_may_afford_less_than_the_balance() -> None:
    figures = InsufficientCredits(available=3, required=5, affordable=2).figures
    assert figures["max_affordable_minor"] == 200


async def test_insufficient_credits(agent: httpx.AsyncClient, user: User) -> None:
    """Guide: the fourth charge of a new user is refused, and the check says what to buy."""
    for i in range(3):
        assert (await agent.post("/v1/billing/charges", json=charge_of(user, f"test-{i}"))).status_code == 201
    refused = await agent.post("/v1/billing/charges", json=charge_of(user, "test-4"))
    assert refused.status_code == 402
    assert refused.json()["detail"] == "Insufficient credits. Balance: 0, Required: 100"
    assert refused.json()["code"] == "insufficient_credits"
    assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
    assert figures_of(refused) == (0, 100, 100, 0)
    check = (await agent.post("/v1/billing/check", json=user)).json()
    assert check["reason"] == "No free uses or credits remaining"
    assert (check["has_credit"], check["purchase_required"]) == (False, True)
    assert (check["purchase_price_minor"], check["purchase_uses"]) == (500, 20)


async def test_units_of_the_worked_example(minter: httpx.AsyncClient, user: User) -> None:
    """Buy 20, charge 100: `balance_after` is 1900, and the check shows 19."""
    for i in range(3):
        await minter.post("/v1/billing/charges", json=charge_of(user, f"free-{i}"))
    bought = {**user, "amount_minor": 2000, "currency": "USD", "transaction_type": "purchase"}
    credited = await minter.post("/v1/billing/credits", json=bought)
    assert (credited.status_code, credited.json()["balance_after"]) == (201, 2000)
    charged = await minter.post("/v1/billing/charges", json=charge_of(user, "paid"))
    assert charged.json()["balance_after"] == 1900
    assert (await minter.post("/v1/billing/check", json=user)).json()["credits_remaining"] == 19


async def test_clients_that_send_1_and_those_that_send_100_pay_one_use(agent: httpx.AsyncClient, user: User) -> None:
    await agent.post("/v1/billing/charges", json={**user, "amount_minor": 1, "idempotency_key": "proxy"})
    await agent.post("/v1/billing/charges", json={**user, "amount_minor": 100, "idempotency_key": "agent"})
    check = (await agent.post("/v1/billing/check", json=user)).json()
    assert (check["total_uses"], check["free_uses_remaining"]) == (2, 1)


async def test_health_and_root(client_for: object, agent: httpx.AsyncClient) -> None:
    health = await agent.get("/health")
    assert (health.status_code, set(health.json())) == (200, {"service", "version", "status", "database", "timestamp"})
    assert set((await agent.get("/")).json()) == {"service", "status", "version"}
