"""Both clients against the real service: every method, and every refusal as its exception."""

import asyncio
import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.settings import Settings
from ciris_billing import (
    AccountSuspended,
    AsyncBillingClient,
    BillingClient,
    BillingError,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PurchaseFailed,
    PurchasePending,
    Unauthorized,
    User,
    charge_key,
)
from ciris_billing.models import UserFields
from tests.conftest import Keys, make_usage_key
from tests.sdk.conftest import Faulty, Service
from tests.sdk.reactions import Reaction

BASIC = (Permission.READ, Permission.WRITE, Permission.CREDIT)


async def test_check_and_charge_until_nothing_is_left(billing: Any, who: User) -> None:
    status = await billing.check_credit(who, context={"agent_id": "datum", "request_id": "r"})
    assert (status.has_credit, status.free_uses_remaining, status.uses_remaining) == (True, 3, 3)
    metadata = {"message_id": "m", "agent_id": "datum", "channel_id": "discord:1", "request_id": "r"}
    charge = await billing.charge(who, interaction_id="1", description="first", metadata=metadata)
    assert (charge.amount_minor, charge.currency, charge.replayed, charge.description) == (100, "USD", False, "first")
    assert charge.metadata.model_dump() == metadata
    assert (await billing.get_charge(charge.charge_id)).created_at == charge.created_at
    again = await billing.charge(who, interaction_id="1")
    assert (again.replayed, again.charge_id) == (True, charge.charge_id)
    await billing.charge(oauth_provider=who.oauth_provider, external_id=who.external_id, interaction_id="2")
    await billing.charge(who, idempotency_key="3", amount_minor=1)
    with pytest.raises(InsufficientCredits) as refused:
        await billing.charge(who, interaction_id="4", amount_minor=250)
    error = refused.value
    assert (error.balance, error.required, error.code, error.status) == (0, 300, "insufficient_credits", 402)
    assert (error.shortfall, error.max_affordable) == (300, 0)
    assert error.request_id
    assert (await billing.check_credit(who)).purchase_uses == 20


async def test_whether_an_interaction_was_charged_costs_nothing_to_ask(billing: Any, who: User) -> None:
    assert not await billing.was_charged(who, interaction_id="1")
    await billing.charge(who, interaction_id="1")
    assert await billing.was_charged(who, interaction_id="1")
    assert await billing.was_charged(who, idempotency_key=charge_key("1"))
    for another in (who, dataclasses.replace(who, external_id=f"other-{uuid.uuid4()}")):
        assert not await billing.was_charged(another, interaction_id="2")
    assert (await billing.check_credit(who)).total_uses == 1
    with pytest.raises(TypeError):
        await billing.was_charged(who)


NO_ROUTE = Reaction(404, b'{"detail": "Not Found", "code": "not_found"}')
READ_AS_CHARGE_ID = Reaction(
    422, b'{"detail": [{"type": "uuid_parsing", "loc": ["path", "charge_id"], "msg": ""}], "code": "validation_error"}'
)


@pytest.mark.parametrize("reaction", [NO_ROUTE, READ_AS_CHARGE_ID], ids=["no route", "another route"])
async def test_a_service_that_cannot_be_asked_by_key_makes_nothing_look_paid(
    troubled: Any, faulty: Faulty, who: User, reaction: Reaction
) -> None:
    """Without the route, the client can tell only that a key is new; for a used key, the reply names no charge."""
    faulty.reactions = [reaction]
    assert await troubled.was_charged(who, interaction_id="1") is False
    await troubled.charge(who, interaction_id="1")
    faulty.reactions = [reaction]
    with pytest.raises(IdempotencyKeyReused):
        await troubled.was_charged(who, interaction_id="1")
    assert (await troubled.check_credit(who)).total_uses == 1


@pytest.mark.parametrize("status", [401, 403, 422, 500])
async def test_no_other_answer_says_whether_it_was_charged(
    troubled: Any, faulty: Faulty, who: User, status: int
) -> None:
    faulty.reactions = [Reaction(status)]
    with pytest.raises(BillingError):
        await troubled.was_charged(who, interaction_id="1")
    assert len(faulty.requests) == 1


async def test_credits_account_and_transactions(billing: Any, who: User) -> None:
    with pytest.raises(NotFound) as missing:
        await billing.get_account(who)
    assert missing.value.code == "account_not_found"
    named = dataclasses.replace(who, customer_email="ada@example.com", display_name="Ada", marketing_opt_in=True)
    account = await billing.get_or_create_account(named, plan_name="pro")
    assert (account.plan_name, account.display_name, account.marketing_opt_in) == ("pro", "Ada", True)
    assert await billing.get_account(who) == await billing.get_account(account_id=account.account_id)
    credit = await billing.add_credits(who, amount_minor=2000, idempotency_key="k", transaction_type="bonus")
    assert (credit.balance_after, credit.replayed, credit.transaction_type) == (2000, False, "bonus")
    assert (await billing.add_credits(who, amount_minor=2000, idempotency_key="k", transaction_type="bonus")).replayed
    page = await billing.transaction_page(who, limit=1)
    assert (page.total_count, page.has_more, page.transactions[0].type) == (1, False, "credit")
    assert (await billing.get_account(who)).paid_credits == 20


async def test_tools(billing: Any, who: User) -> None:
    assert (await billing.tool_check("web_search", who)).has_credit
    first = await billing.tool_charge("web_search", who, call_id="c1", request_id="r")
    assert (first.used_free, first.cost_minor, first.free_remaining) == (True, 0, 9)
    assert await billing.tool_charge("web_search", who, call_id="c1") == first
    assert (await billing.tool_balance("web_search", who)).free_remaining == 9
    assert {balance.product_type for balance in await billing.tool_balances(who)} >= {"web_search", "image_gen"}
    with pytest.raises(InvalidRequest) as unknown:
        await billing.tool_balance("no such..tool", who)
    assert (unknown.value.code, unknown.value.message) == (
        "unknown_product_type",
        "Unknown product type: no such..tool",
    )
    for call in range(5):
        await billing.tool_charge("image_gen", who, call_id=str(call))
    with pytest.raises(InsufficientCredits) as refused:
        await billing.tool_charge("image_gen", who, call_id="one too many")
    assert (refused.value.balance, refused.value.required) == (0, 1000)


async def test_llm_usage_and_health(billing: Any, who: User) -> None:
    logged = await billing.report_llm_usage(
        who,
        interaction_id=str(uuid.uuid4()),
        total_llm_calls=1,
        total_prompt_tokens=10,
        total_completion_tokens=5,
        models_used=["a-model"],
        actual_cost_cents=0.0123,
        duration_ms=40,
    )
    assert logged.logged
    assert (await billing.health()).status == "healthy"


async def test_purchase_is_waited_for(billing: Any, service: Service, who: User) -> None:
    purchase = await billing.create_purchase(who, return_url="https://agent.example/done")
    assert (purchase.amount_minor, purchase.uses_purchased) == (500, 20)
    assert (await billing.create_purchase(who)).payment_id == purchase.payment_id
    with pytest.raises(PurchasePending) as pending:
        await billing.wait_for_purchase(purchase.payment_id, timeout_s=0.05)
    assert pending.value.payment_status == "requires_payment_method"
    waiting = asyncio.create_task(billing.wait_for_purchase(purchase.payment_id, who, timeout_s=10))
    await asyncio.to_thread(service.pay, purchase.payment_id, purchase.client_secret)
    status = await waiting
    assert (status.status, status.credits_added, status.balance_after) == ("succeeded", 20, 20)


async def test_declined_purchase_fails(client: AsyncBillingClient, service: Service, who: User) -> None:
    purchase = await client.create_purchase(who)
    await asyncio.to_thread(service.pay, purchase.payment_id, purchase.client_secret, "pm_card_chargeDeclined")
    with pytest.raises(PurchaseFailed) as failed:
        await client.wait_for_purchase(purchase.payment_id, who, timeout_s=5)
    assert failed.value.payment_status == "failed"


async def test_payment_is_shown_to_its_buyer_alone(client: AsyncBillingClient, who: User) -> None:
    purchase = await client.create_purchase(who)
    other = dataclasses.replace(who, external_id="another")
    await client.check_credit(other)
    for stranger in (other, dataclasses.replace(who, external_id=f"unknown-{uuid.uuid4()}")):
        with pytest.raises(NotFound) as hidden:
            await client.purchase_status(purchase.payment_id, stranger)
        assert (hidden.value.code, hidden.value.message) == ("payment_not_found", "Payment not found")
    assert (await client.purchase_status(purchase.payment_id, who)).payment_id == purchase.payment_id


async def test_every_transaction_comes_once(service: Service, client: AsyncBillingClient, who: User) -> None:
    await client.get_or_create_account(who)
    for number in range(7):
        await client.add_credits(who, amount_minor=100, idempotency_key=f"k{number}")
    seen = []
    async for transaction in client.transactions(who, page_size=2):
        seen.append(transaction.transaction_id)
        if len(seen) == 3:  # transactions that arrive during the iteration push everything to later pages
            await client.add_credits(who, amount_minor=100, idempotency_key="meanwhile")
    assert len(seen) == len(set(seen)) == 7

    def blocking() -> int:
        with BillingClient(service.url, service.keys.agent) as reader:
            return len(list(reader.transactions(who, page_size=3)))

    assert await asyncio.to_thread(blocking) == 8


@pytest.fixture(scope="module")
async def provider_key(db: Database) -> str:
    """A key for which a `user_id` is an external id of oauth:zero."""
    return await make_usage_key(db, UsageTerms(identity_provider="oauth:zero"), "live", *BASIC)


async def test_every_call_takes_a_user_id(service: Service, provider_key: str) -> None:
    user_id = str(uuid.uuid4())
    by_id: UserFields = {"user_id": user_id.upper()}
    by_identity: UserFields = {"oauth_provider": "oauth:zero", "external_id": user_id}
    async with AsyncBillingClient(service.url, provider_key) as client:
        account = await client.get_or_create_account(**by_id)
        assert account.external_id == user_id
        assert (await client.add_credits(**by_id, amount_minor=500, idempotency_key="c")).balance_after == 500
        charge = await client.charge(**by_id, interaction_id="1")
        purchase = await client.create_purchase(**by_id)
        used = await client.tool_charge("web_search", **by_id, call_id="c1")
        async with client.gate(**by_id, interaction_id="2") as passage:
            pass
        assert passage.charge is not None
        assert passage.charge.account_id == account.account_id
        for named in (by_id, by_identity):
            status = await client.check_credit(**named)
            assert (await client.get_account(**named)).account_id == account.account_id
            assert (status.uses_remaining, await client.was_charged(**named, interaction_id="1")) == (6, True)
            assert (await client.charge(**named, interaction_id="1")).charge_id == charge.charge_id
            assert [t async for t in client.transactions(**named)][1].transaction_id == charge.charge_id
            assert (await client.purchase_status(purchase.payment_id, **named)).status == purchase.status
            assert len(await client.packs(**named)) == 1
            assert (await client.tool_balance("web_search", **named)).free_remaining == used.free_remaining
            assert (await client.tool_check("web_search", **named)).has_credit
            assert await client.tool_balances(**named)
        with pytest.raises(InvalidRequest, match="user_id names another user"):
            await client.check_credit(user_id=user_id, oauth_provider="oauth:zero", external_id="another")
        with pytest.raises(NotFound):
            await client.get_account(user_id=str(uuid.uuid4()))
        with pytest.raises(TypeError, match="a user_id"):
            await client.get_account(external_id=user_id)


async def test_refusals_have_types(service: Service, client: AsyncBillingClient, who: User) -> None:
    async with AsyncBillingClient(service.url, "cbk_live_nobody") as nobody:
        with pytest.raises(Unauthorized) as unauthorized:
            await nobody.check_credit(who)
    assert (unauthorized.value.code, unauthorized.value.status) == ("invalid_api_key", 401)
    async with AsyncBillingClient(service.url, service.keys.reader) as reader:
        with pytest.raises(PermissionDenied) as denied:
            await reader.charge(who, interaction_id="1")
    assert denied.value.message == "Missing required permission: billing:write"
    await client.charge(who, interaction_id="1")
    with pytest.raises(IdempotencyKeyReused):
        await client.charge(who, interaction_id="1", amount_minor=200)
    with pytest.raises(InvalidRequest) as invalid:
        await client.charge(who, interaction_id="2", amount_minor=0)
    assert invalid.value.fields[0]["loc"] == ["body", "amount_minor"]
    with pytest.raises(InvalidRequest) as unnamed:
        await client.check_credit()
    assert unnamed.value.code == "identity_required"


async def test_suspended_account(client: AsyncBillingClient, db: Database, settings: Settings, who: User) -> None:
    account = await client.get_or_create_account(who)
    await BillingService(db, Configuration(db, settings)).accounts.set_status(
        account.account_id, "suspended", "spam", datetime.now(UTC)
    )
    with pytest.raises(AccountSuspended) as suspended:
        await client.charge(who, interaction_id="1")
    assert (suspended.value.reason, suspended.value.status) == ("spam", 403)


async def test_caller_s_own_http_client_is_used_and_left_open(app: FastAPI, keys: Keys, who: User) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        for _ in range(2):
            async with AsyncBillingClient("http://in-this-process", keys.agent, http_client=http) as client:
                assert (await client.check_credit(who)).has_credit


def test_a_user_is_given_in_one_way_and_a_charge_has_one_name(service: Service, who: User) -> None:
    with BillingClient(service.url, service.keys.agent) as client:
        with pytest.raises(TypeError, match="not both"):
            client.check_credit(who, wa_id="1")
        with pytest.raises(TypeError, match="one of the two"):
            client.charge(who)
        with pytest.raises(TypeError, match="one of the two"):
            client.charge(who, interaction_id="1", idempotency_key="1")
        with pytest.raises(ValueError, match="id is empty"):
            client.charge(who, interaction_id="")


def test_credentials_are_checked_before_they_are_sent() -> None:
    with pytest.raises(TypeError, match="one of the two"):
        BillingClient("http://127.0.0.1")
    with pytest.raises(TypeError, match="one of the two"):
        AsyncBillingClient("http://127.0.0.1", "key", token=lambda: "token")
    with pytest.raises(ValueError, match="line break"):
        BillingClient("http://127.0.0.1", "cbk_live_key\n")
    with pytest.raises(ValueError, match="https://"):
        BillingClient("billing.example.com", "key")
