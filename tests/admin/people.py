"""A customer who has done everything that leaves a trace, and every name that they left it under."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from app.auth.caller import Permission
from app.ledger.pools import Credits
from tests.admin.conftest import Office
from tests.books import connected
from tests.conftest import ACTOR, make_key

PAYMENT = """
    INSERT INTO purchases (account_id, purchase_id, environment, pack, credits, amount_minor, currency, idempotency_key,
                           payment_intent_id, status, status_at, refunded_minor, credits_refunded, credits_disputed,
                           created_at, updated_at)
    VALUES ($1, $2, 'live', 'small', 20, 500, 'USD', $3, $4, 'canceled', now(), 0, 0, 0, now(), now())
"""


@dataclass
class Person:
    """`names`: texts that must not be found anywhere after the erasure. `key`: an agent's key with every permission."""

    account_id: UUID
    user: dict[str, str]
    key: str
    payment_id: str
    names: list[str] = field(default_factory=list)

    def agent(self, office: Office) -> httpx.AsyncClient:
        client = office.client(None)
        client.headers["X-API-Key"] = self.key
        return client


async def somebody(office: Office) -> Person:
    """An account with 50 paid credits given, some spent in each way, and a purchase."""
    mark = uuid.uuid4().hex
    names: list[str] = []

    def name(what: str) -> str:
        names.append(f"{what}-{mark}")
        return names[-1]

    user = {"oauth_provider": "oauth:google", "external_id": name("subject")}
    person = Person(UUID(int=0), user, await make_key(office.db, "live", *Permission), f"pi_{mark}", names)
    profile = {field: name(field) for field in ("customer_email", "display_name", "user_role", "agent_id")}
    profile |= {field: name(field) for field in ("wa_id", "tenant_id")}
    consent = {"marketing_opt_in": True, "marketing_opt_in_source": name("source")}
    async with person.agent(office) as agent:

        async def post(path: str, status: int, **body: Any) -> None:
            answer = await agent.post(f"/v1/{path}", json={**user, **body})
            assert answer.status_code == status, answer.text

        await post("billing/check", 200, **profile, **consent)
        person.account_id = await account_of(office, user["external_id"])
        grant = {"credits": Credits(50), "currency": None, "transaction_type": "grant", "actor": ACTOR}
        await office.app.state.billing.credit(person.account_id, **grant, now=datetime.now(UTC))
        given = {"amount_minor": 300, "currency": "USD", "transaction_type": "bonus"}
        ids = {"external_transaction_id": name("transaction"), "idempotency_key": name("credit-key")}
        await post("billing/credits", 201, **given, **ids, description=name("credit"))
        for i in range(3):
            metadata = {"message_id": name(f"m{i}"), "channel_id": name(f"channel{i}"), "agent_id": "the-agent"}
            charge = {"idempotency_key": name(f"charge-key{i}"), "description": name(f"charge{i}")}
            await post("billing/charges", 201, amount_minor=150, currency="USD", metadata=metadata, **charge)
        for i in range(6):  # the sixth is paid by the main pool
            keys = {"idempotency_key": name(f"tool-key{i}"), "request_id": name(f"request{i}")}
            await post("tools/charge", 200, product_type="image_gen", **keys)
        for i in range(2):
            for _ in range(3):
                await post("billing/litellm/usage", 201, interaction_id=f"interaction{i}-{mark}", **LLM)
            names.append(f"interaction{i}-{mark}")
        for i, (status, cost) in enumerate([(200, 0), (402, 5), (402, 5)]):
            calls = {"type": "api_calls", "endpoint": name(f"endpoint{i}"), "count": 1}
            ids = {field: name(f"{field}{i}") for field in ("run_id", "parent_run_id", "request_id", "conversation")}
            event = {"event_id": name(f"event{i}"), "cost_cents": cost, "metadata": {name(f"meta{i}"): 1}, **ids}
            await post("usage", status, metric=calls, agent_id="the-agent", **event)
        run = name("run")
        await post("billing/runs", 201, run_id=run, budget={"amount_minor": 0})
        await post("billing/charges", 402, amount_minor=100, run_id=run)
    await office.app.state.refusal_log.flush()
    async with connected(office.urls) as connection:
        await connection.execute(PAYMENT, person.account_id, uuid.uuid4(), name("purchase-key"), person.payment_id)
    return person


async def account_of(office: Office, external_id: str) -> UUID:
    [row] = await office.rows("SELECT account_id FROM account_identities WHERE external_id = $1", external_id)
    account_id: UUID = row["account_id"]
    return account_id


LLM = {
    "total_llm_calls": 2,
    "total_prompt_tokens": 100,
    "total_completion_tokens": 20,
    "models_used": ["small-model"],
    "actual_cost_cents": 0.125,
    "duration_ms": 900,
}
