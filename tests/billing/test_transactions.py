"""The history of an account: the list that users see, and the ledger that no one can change."""

import json
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.accounts import models as accounts_models
from app.analytics import models as analytics_models
from app.billing import models as billing_models
from app.cost_records import models as cost_records_models
from app.db import Base
from app.ledger import models as ledger_models
from app.live import models as live_models
from app.metering import models as metering_models
from app.neighbours import models as neighbours_models
from app.payments import models as payments_models
from app.receipts import models as receipts_models
from app.refills import models as refills_models
from app.refusals import models as refusals_models
from app.subscriptions import models as subscriptions_models
from app.tools import models as tools_models
from app.wallet import models as wallet_models
from tests.billing.test_charges import User, body
from tests.billing.test_credits import credit
from tests.books import connected
from tests.databases import Urls

TRANSACTION_FIELDS = {
    "transaction_id",
    "type",
    "amount_minor",
    "currency",
    "description",
    "created_at",
    "balance_after",
    "transaction_type",
    "external_transaction_id",
    "metadata",
}
TRANSACTIONS = "/v1/billing/transactions"
MONEY = [
    model.__tablename__
    for model in (
        ledger_models.Account,
        accounts_models.AccountActivity,
        ledger_models.LedgerEntry,
        ledger_models.Grant,
        ledger_models.Hold,
        ledger_models.HoldPart,
        ledger_models.SpendingLimit,
        ledger_models.LimitCounter,
        ledger_models.EvaluatedLimits,
        ledger_models.Run,
        ledger_models.KeyUse,
        ledger_models.Approval,
        ledger_models.RefillSettings,
        receipts_models.ChainedEntry,
        billing_models.Charge,
        billing_models.ChargePurpose,
        billing_models.Credit,
        billing_models.FreeGrant,
        metering_models.LlmUsage,
        metering_models.UsageKey,
        metering_models.UsageEvent,
        metering_models.UsageAttempt,
        metering_models.UsageVolume,
        metering_models.AccountCorrection,
        metering_models.UsageCorrection,
        wallet_models.MoneyCredit,
        live_models.StreamTicket,
        wallet_models.GrantClaim,
        wallet_models.Referral,
        cost_records_models.CostRecord,
        cost_records_models.CostRecordItem,
        neighbours_models.MovedAccount,
        refusals_models.RefusedRequest,
        tools_models.ProductInventory,
        tools_models.ProductUsage,
        payments_models.Purchase,
        payments_models.PurchaseDispute,
        payments_models.PurchaseRefund,
        payments_models.PaymentCustomer,
        subscriptions_models.SubscriptionOrder,
        subscriptions_models.Subscription,
        subscriptions_models.SubscriptionTerms,
        subscriptions_models.SubscriptionInvoice,
        subscriptions_models.PeriodGrant,
        subscriptions_models.Subscriber,
        refills_models.CardConsent,
        refills_models.CardSetup,
        refills_models.SavedCard,
        refills_models.Refill,
        analytics_models.AccountDay,
        analytics_models.LlmInteraction,
        analytics_models.InteractionCalls,
        analytics_models.InteractionShare,
    )
]


async def listed(client: httpx.AsyncClient, user: User, **query: int) -> dict[str, Any]:
    answer = await client.get(TRANSACTIONS, params={**user, **query})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"transactions", "total_count", "has_more"}
    page: dict[str, Any] = answer.json()
    return page


async def test_unknown_account_has_no_transactions(agent: httpx.AsyncClient, user: User) -> None:
    assert await listed(agent, user) == {"transactions": [], "total_count": 0, "has_more": False}


async def test_everything_that_moved_the_main_pools_is_listed_newest_first(
    minter: httpx.AsyncClient, user: User
) -> None:
    metadata = {"message_id": "m", "agent_id": "datum", "channel_id": "c", "request_id": "r"}
    spent = await minter.post("/v1/billing/charges", json=body(user, "1", 300, metadata=metadata, description="free"))
    given = await minter.post("/v1/billing/credits", json=credit(user, 2000, external_transaction_id="pi_1"))
    part = await minter.post("/v1/billing/charges", json=body(user, "2", 150))
    for _ in range(6):
        tool = await minter.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
    assert tool.json()["used_main_pool"] is True
    page = await listed(minter, user)
    assert (page["total_count"], page["has_more"]) == (4, False)
    assert all(set(transaction) == TRANSACTION_FIELDS for transaction in page["transactions"])
    transactions = [
        (t["type"], t["amount_minor"], t["balance_after"], t["transaction_type"], t["description"])
        for t in page["transactions"]
    ]
    assert transactions == [
        ("charge", -1000, 800, None, "image_gen"),
        ("charge", -150, 1800, None, "Agent interaction"),
        ("credit", 2000, 2000, "grant", "Grant of 20 credits"),
        ("charge", -300, 0, None, "free"),
    ]
    ids = [t["transaction_id"] for t in page["transactions"]]
    assert ids[1:] == [part.json()["charge_id"], given.json()["credit_id"], spent.json()["charge_id"]]
    assert page["transactions"][3]["metadata"] == metadata
    assert page["transactions"][2]["metadata"] is None
    assert page["transactions"][2]["external_transaction_id"] == "pi_1"
    assert all(t["created_at"].endswith("Z") for t in page["transactions"])


async def test_pages_are_complete_and_do_not_overlap(minter: httpx.AsyncClient, user: User) -> None:
    await minter.post("/v1/billing/accounts", json=user)
    for i in range(7):
        await minter.post("/v1/billing/credits", json=credit(user, 100 * (i + 1)))
    pages = [await listed(minter, user, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert {page["total_count"] for page in pages} == {7}
    amounts = [t["amount_minor"] for page in pages for t in page["transactions"]]
    assert amounts == [700, 600, 500, 400, 300, 200, 100]


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 501}, {"limit": "x"}, {"offset": -1}, {"offset": 2**63}, {"limit": 10**30}]
)
async def test_limits_are_checked(agent: httpx.AsyncClient, user: User, query: dict[str, Any]) -> None:
    answer = await agent.get(TRANSACTIONS, params={**user, **query})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert (await agent.get(TRANSACTIONS, params={**user, "limit": 500, "offset": 2**63 - 1})).status_code == 200


async def test_key_must_name_a_user(agent: httpx.AsyncClient, user: User) -> None:
    for left_out in user:
        query = {name: value for name, value in user.items() if name != left_out}
        answer = await agent.get(TRANSACTIONS, params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "identity_required")
        assert left_out in answer.json()["detail"]


async def test_charge_can_be_read_back_as_it_was_answered(agent: httpx.AsyncClient, user: User) -> None:
    charged = (await agent.post("/v1/billing/charges", json=body(user, "key", description="d"))).json()
    assert (await agent.get(f"/v1/billing/charges/{charged['charge_id']}")).json() == charged


async def test_metadata_that_an_earlier_version_stored_is_left_out(
    agent: httpx.AsyncClient, user: User, database: Urls
) -> None:
    """Captures of holds once took over any metadata of the hold."""
    charged = (await agent.post("/v1/billing/charges", json=body(user))).json()
    stored = {"agent_id": {"name": "scout"}, "message_id": "x" * 256, "channel_id": 7, "request_id": "r", "note": [1]}
    async with connected(database) as connection:
        sql = "UPDATE charges SET metadata = $1::text::jsonb WHERE charge_id = $2"
        await connection.execute(sql, json.dumps(stored), UUID(charged["charge_id"]))
    path = f"/v1/billing/charges/{charged['charge_id']}"
    expected = {"agent_id": None, "message_id": None, "channel_id": "7", "request_id": "r"}
    assert (await agent.get(path)).json()["metadata"] == expected
    assert (await agent.get(f"{path}/explanation")).json()["charge"]["metadata"] == expected
    listed = (await agent.get(TRANSACTIONS, params=user)).json()["transactions"]
    assert listed[0]["metadata"] == expected


@pytest.mark.parametrize("role", ["service", "owner", "superuser"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger_entries SET delta = delta + 1",
        "UPDATE ledger_entries SET actor_id = 'somebody else' WHERE entry_no = 1",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "TRUNCATE accounts CASCADE",
    ],
)
async def test_database_itself_keeps_the_ledger_append_only(
    agent: httpx.AsyncClient, user: User, database: Urls, role: str, sql: str
) -> None:
    await agent.post("/v1/billing/charges", json=body(user))
    connection = await asyncpg.connect(getattr(database, role))
    try:
        before = await connection.fetchval("SELECT count(*) FROM ledger_entries")
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(sql)
        assert refused.value.sqlstate in ("42501", "P0001", "55000", "2F003"), refused.value
        assert await connection.fetchval("SELECT count(*) FROM ledger_entries") >= before > 0
    finally:
        await connection.close()


async def test_account_leads_every_key_of_the_money_tables(database: Urls) -> None:
    """So the books can be sharded by account, including tables that are added later."""
    async with connected(database) as connection:
        keys = await connection.fetch(
            """
            SELECT t.relname AS table_name, i.indexrelid::regclass::text AS name,
                   (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = i.indkey[0]) AS leader
              FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
             WHERE i.indisunique AND t.relname = ANY($1)
             UNION ALL
            SELECT t.relname, c.conname,
                   (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = c.conkey[1])
              FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
             WHERE c.contype = 'f' AND t.relname = ANY($1)
            """,
            MONEY,
        )
    assert {key["table_name"] for key in keys} == set(MONEY)
    assert [dict(key) for key in keys if key["leader"] != "account_id"] == []


async def test_every_table_with_an_account_is_known_as_money_or_as_a_person() -> None:
    about_people = {"account_identities", "account_profiles", "account_search_words", "account_spellings"}
    about_people.add("provider_objects")  # its key crosses accounts, like that of an identity
    with_account = {name for name, table in Base.metadata.tables.items() if "account_id" in table.c}
    assert with_account == set(MONEY) | about_people


async def test_every_movement_says_who_and_why(minter: httpx.AsyncClient, user: User, database: Urls) -> None:
    charged = (await minter.post("/v1/billing/charges", json=body(user, "1", 200))).json()
    given = (await minter.post("/v1/billing/credits", json=credit(user, 500))).json()
    spanning = (await minter.post("/v1/billing/charges", json=body(user, "2", 300))).json()
    account = UUID(charged["account_id"])
    async with connected(database) as connection:
        rows = await connection.fetch("SELECT * FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no", account)
    transactions = [
        (r["entry_no"], r["pool"], r["delta"], r["balance_after"], r["kind"], r["cause_type"], str(r["cause_id"]))
        for r in rows
    ]
    assert transactions == [
        (1, "free", 3, 3, "opening_grant", "account", str(account)),
        (2, "free", -2, 1, "charge", "charge", charged["charge_id"]),
        (3, "paid", 5, 5, "grant", "credit", given["credit_id"]),
        (4, "free", -1, 0, "charge", "charge", spanning["charge_id"]),
        (5, "paid", -2, 3, "charge", "charge", spanning["charge_id"]),
    ]
    assert {row["actor_type"] for row in rows} == {"api_key"}
    key_id = minter.headers["X-API-Key"].split("_")[2]
    assert {row["actor_id"] for row in rows} == {key_id}
