"""Erasure of a person: no row names them afterwards, the books still add up, and concurrent requests stay correct."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import Identity, Profile
from app.analytics.rollup import SETTLED, roll_up
from app.db import new_id
from app.verification import verify_books
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.admin.conftest import Office
from tests.admin.people import LLM, Person, account_of, somebody
from tests.books import account_locked, balances, connected
from tests.chaos.proxy import PostgresProxy
from tests.conftest import ACTOR, running_app

REASON = "asked by letter"
NOBODY = UUID(int=7)


async def erase(client: httpx.AsyncClient, person: Person, **changes: Any) -> httpx.Response:
    body = {"confirm": person.user["external_id"], "reason": REASON, **changes}
    return await client.post(f"/admin/users/{person.account_id}/erase", json=body)


async def work(office: Office) -> None:
    """Do every job that is due."""
    settings = office.app.state.settings
    async with running_services(settings) as services:
        queue = create_worker(settings, services)
        async with queue.open_async():
            await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)


async def everything(office: Office) -> str:
    """The whole database as text, but for the job queue's own tables."""
    tables = await office.rows("SELECT relname FROM pg_stat_user_tables WHERE relname NOT LIKE 'procrastinate%'")
    assert len(tables) > 15
    parts = [await office.rows(f"SELECT t::text AS row FROM {table['relname']} t") for table in tables]
    return "\n".join(row["row"] for part in parts for row in part)


async def test_nothing_names_the_person_and_the_books_add_up(office: Office, admin: httpx.AsyncClient) -> None:
    person, neighbour = await somebody(office), await somebody(office)
    path = f"/admin/users/{person.account_id}"
    assert (await admin.post(f"{path}/revoke-tokens", json={"reason": "a ticket"})).status_code == 200
    await roll_up(office.db, datetime.now(UTC) + SETTLED)  # so that all of it is in the reports' sums
    before = await everything(office)
    assert [name for name in person.names if name not in before] == []
    pools = await balances(office.urls, person.account_id)
    erased = await erase(admin, person)
    assert erased.status_code == 200, erased.text
    fields = ("status", "external_id", "customer_email", "display_name", "paid")
    assert [erased.json()[name] for name in fields] == ["closed", None, None, None, pools["paid"]]
    await work(office)
    after = await everything(office)
    assert [name for name in person.names if name in after] == []
    assert [name for name in neighbour.names if name not in after] == []
    assert await balances(office.urls, person.account_id) == pools
    verification = await verify_books(office.db, datetime.now(UTC))
    assert verification.ok, verification.problem


async def test_a_refusal_forgets_the_run_that_it_names(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    run_id = uuid.uuid4().hex
    run = {**person.user, "run_id": run_id}
    async with person.agent(office) as agent:
        assert (await agent.post("/v1/billing/runs", json=run)).status_code == 201
        paused = {**person.user, "status": "paused"}
        assert (await agent.patch(f"/v1/billing/runs/{run_id}", json=paused)).status_code == 200
        assert (await agent.post("/v1/billing/charges", json={**run, "amount_minor": 100})).status_code == 402
    await office.app.state.refusal_log.flush()
    refusals = "SELECT detail, figures FROM refused_requests WHERE account_id = $1 AND code = 'run_paused'"
    [before] = await office.rows(refusals, person.account_id)
    assert run_id in before["detail"]
    assert run_id in before["figures"]
    await erase(admin, person)
    await work(office)
    assert run_id not in await everything(office)


async def test_what_belongs_together_stays_together(office: Office, admin: httpx.AsyncClient) -> None:
    """Reports count an interaction once, tell by agent, and find the purchase that a payment is of."""
    person = await somebody(office)
    await erase(admin, person)
    for _ in range(2):  # a job may run twice
        await work(office)
        await office.rows("UPDATE procrastinate_jobs SET status = 'todo' WHERE task_name = 'forget_texts' RETURNING id")
    usage = await office.rows(
        "SELECT interaction_id, count(*) AS n FROM llm_usage WHERE account_id = $1 GROUP BY 1", person.account_id
    )
    assert [row["n"] for row in usage] == [3, 3]
    charges = await office.rows("SELECT metadata FROM charges WHERE account_id = $1", person.account_id)
    assert sorted(json.loads(row["metadata"]).get("agent_id", "") for row in charges) == ["", *["the-agent"] * 3]
    [purchase] = await office.rows("SELECT * FROM purchases WHERE account_id = $1", person.account_id)
    assert purchase["payment_intent_id"] == person.payment_id


async def test_every_column_of_an_accounts_tables_is_known_to_name_nobody_or_is_forgotten(office: Office) -> None:
    """A developer who adds a text column decides here how erasure treats it."""
    ours = {
        *("environment", "currency", "plan_name", "status", "status_reason", "pool", "unit", "kind", "cause_type"),
        *("operation", "transaction_type", "product_type", "source", "result", "pack", "received_currency"),
        *(
            "review_reason",
            "next_action",
            "models_used",
            "model",
            "models",
            "payment_intent_id",
            "checkout_session_id",
            *("customer_id", "object_id", "parent_id"),  # of a payment provider
            *("subscription_id", "invoice_id", "session_id", "price_id", "price_item_id", "payment_ids"),
            "dispute_id",
            "refund_id",
        ),
        "request_key",  # an admin's
        "reason",  # one of Stripe's words
        "agent_id",  # an agent is no person
        "caller_kind",
        "origin",  # of a moved account
        *("category", "on_expiry", "occasion"),  # of grants and holds, and of what is given once
        *("category", "on_expiry"),  # of grants and holds
        *("scope", "time_window", "action", "owner"),  # of limits
        *("ancestors", "pause_reason"),  # of runs
        *("decided_by_type", "decided_by"),  # of approvals: users and admins by ids
        "provider",  # of a payment
        *("plan_interval", "plan_before", "terms", "lines", "refunds", "disputes", "refunds_reported"),  # of plans
        "limits",  # ids, counts and amounts of a plan's, and of those that allowed a request
        *(
            "meter",
            "refusal",
            "price",
            "tool",
            "key_id",
            "row_id",
        ),  # of usage; a source is forgotten, though ours elsewhere
        "tokens",  # sums of a cost record
        "token_id",  # of an unused ticket: a digest
        *("route", "code"),  # of refused requests
        "latest",  # numbers of ledger entries
        *("off_reason", "last_decline", "decline"),  # of refills: our words and Stripe's codes
        "text",  # of a consent: the operator's
        *("provider_customer_id", "provider_method_id"),
        *("actor_type", "actor_id"),  # keys, admins, Stripe; of an end user's token a digest
    }
    forgotten = {
        ("account_search_words", "word"),
        ("charges", "idempotency_key"),
        ("charges", "description"),
        ("charges", "metadata"),
        ("credits", "idempotency_key"),
        ("credits", "description"),
        ("credits", "external_transaction_id"),
        ("free_grants", "idempotency_key"),
        ("grants", "idempotency_key"),
        ("holds", "idempotency_key"),
        ("holds", "metadata"),
        ("holds", "outcome"),
        ("holds", "run_id"),
        ("limits", "scope_value"),
        *((table, "run_id") for table in ("charges", "product_usage_log", "runs")),
        ("runs", "metadata"),
        ("approvals", "run_id"),
        ("moved_accounts", "details"),
        ("money_credits", "idempotency_key"),
        ("money_credits", "description"),
        ("money_credits", "external_transaction_id"),
        ("product_usage_log", "idempotency_key"),
        ("product_usage_log", "request_id"),
        *(("refused_requests", column) for column in ("request_id", "detail", "figures")),
        ("purchases", "idempotency_key"),
        *(("purchases", column) for column in ("buyer", "success_url", "cancel_url", "receipt_url")),
        *(("subscription_orders", column) for column in ("success_url", "cancel_url")),
        ("card_consents", "address"),
        *(("card_setups", column) for column in ("success_url", "cancel_url")),
        *(("saved_cards", column) for column in ("brand", "last4")),
        ("refills", "action_url"),
        ("purchases", "card_fingerprint"),
        ("purchases", "card_brand"),
        ("purchases", "card_last4"),
        *(
            ("usage_events", column)
            for column in ("event_id", "quantities", "raw", "metadata", "run_id", "attribution")
        ),
        *(("cost_records", column) for column in ("request_id", "query", "run_id", "error_message")),
        *(("cost_record_items", column) for column in ("item_id", "quantities", "raw")),
        *((table, "event_id") for table in ("usage_keys", "usage_attempts")),
        ("llm_usage", "interaction_id"),
        ("llm_usage", "call_id"),
        ("llm_interactions", "interaction_id"),
        ("interaction_calls", "interaction_id"),
        ("interaction_shares", "interaction_id"),
    }
    rows = await office.rows(
        """
        SELECT table_name, column_name FROM information_schema.columns c
         WHERE table_schema = 'public' AND data_type IN ('text', 'jsonb', 'ARRAY', 'character varying')
               AND table_name NOT IN ('account_identities', 'account_profiles')
               AND EXISTS (SELECT FROM information_schema.columns k WHERE k.table_schema = 'public'
                                   AND k.table_name = c.table_name AND k.column_name = 'account_id')
        """
    )
    found = {(row["table_name"], row["column_name"]) for row in rows if row["column_name"] not in ours}
    assert found == forgotten


@pytest.mark.parametrize("confirm", ["", "somebody else", str(NOBODY), "SUBJECT"])
async def test_without_the_right_confirmation_nothing_happens(
    office: Office, admin: httpx.AsyncClient, confirm: str
) -> None:
    person = await somebody(office)
    before = len(await office.audit("account.erase"))
    assert (await erase(admin, person, confirm=confirm)).status_code == 422
    assert await account_of(office, person.user["external_id"]) == person.account_id
    assert len(await office.audit("account.erase")) == before


async def test_the_audit_log_says_that_it_was_done_once_and_to_nobody_by_name(
    office: Office, admin: httpx.AsyncClient
) -> None:
    person = await somebody(office)
    naming = await erase(admin, person, reason=f"{person.user['external_id']} wrote to us")
    assert naming.status_code == 422
    answers = await asyncio.gather(*(erase(admin, person, confirm=str(person.account_id)) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    rows = [row for row in await office.audit("account.erase") if row["target_id"] == str(person.account_id)]
    assert len(rows) == 1
    assert (rows[0]["reason"], rows[0]["environment"]) == (REASON, "live")
    assert not [name for name in person.names if name in str(rows)]


async def test_erased_account_stays_closed_for_ever(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    await erase(admin, person)
    path = f"/admin/users/{person.account_id}"
    for action in ("reopen", "suspend"):
        refused = await admin.post(f"{path}/{action}", json={"reason": "a mistake"})
        assert (refused.status_code, refused.json()["code"]) == (409, "account_erased")
    revoked = await admin.post(f"{path}/revoke-tokens", json={"reason": "a ticket"})
    assert (revoked.status_code, revoked.json()["code"]) == (404, "account_not_found")
    assert (await admin.get(path)).json()["erased_at"] is not None
    assert (await admin.get(f"{path}/export")).json()["identities"] == []


async def test_person_who_comes_back_is_somebody_new_in_every_process(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    async with running_app(office.app.state.settings) as app:
        other = Office(app, office.urls)
        async with person.agent(office) as here, person.agent(other) as there:
            await asyncio.sleep(0.3)  # until the other process listens
            for agent in (here, there):  # both know the mapping by heart
                assert (await agent.post("/v1/billing/check", json=person.user)).json()["credits_remaining"] > 0
            await erase(admin, person)
            await asyncio.sleep(0.9)
            checks = [(await agent.post("/v1/billing/check", json=person.user)).json() for agent in (there, here)]
        assert [(check["credits_remaining"], check["free_uses_remaining"]) for check in checks] == [(0, 3), (0, 3)]
    again = await account_of(office, person.user["external_id"])
    assert again != person.account_id
    assert (await balances(office.urls, person.account_id))["paid"] > 0


async def test_process_that_hears_of_no_changes_remembers_nobody(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    relay = PostgresProxy(office.app.state.settings.database_url)
    await relay.start()
    settings = office.app.state.settings.model_copy(update={"database_url": relay.url})
    async with running_app(settings) as app, person.agent(Office(app, office.urls)) as agent:
        await asyncio.sleep(0.3)
        assert (await agent.post("/v1/billing/check", json=person.user)).json()["credits_remaining"] > 0
        relay.drops_notifications = True
        await asyncio.sleep(1)
        await erase(admin, person)
        check = (await agent.post("/v1/billing/check", json=person.user)).json()
    await relay.stop()
    assert (check["credits_remaining"], check["free_uses_remaining"]) == (0, 3)


async def test_charges_and_checks_that_race_with_it_are_booked_or_refused_and_leave_no_name(
    office: Office, admin: httpx.AsyncClient
) -> None:
    person = await somebody(office)
    stop = asyncio.Event()
    seen: set[int] = set()

    async def keep_on(agent: httpx.AsyncClient, path: str, i: int, **body: Any) -> None:
        while not stop.is_set():
            profile = {"display_name": f"{person.names[0]} {uuid.uuid4()}"}
            answer = await agent.post(f"/v1/{path}", json={**person.user, **profile, **body})
            seen.add(answer.status_code)

    bodies: list[tuple[str, dict[str, Any]]] = [
        ("billing/check", {}),
        ("billing/charges", {"amount_minor": 100, "currency": "USD", "description": person.names[0]}),
        ("tools/charge", {"product_type": "web_search"}),
        ("billing/litellm/usage", {"interaction_id": person.names[0], **LLM}),
    ]
    async with person.agent(office) as agent:
        tasks = [asyncio.create_task(keep_on(agent, path, i, **body)) for i, (path, body) in enumerate(bodies * 2)]
        await asyncio.sleep(0.3)
        assert (await erase(admin, person)).status_code == 200
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*tasks)
    assert seen <= {200, 201, 402, 403}, seen
    profiles = await office.rows("SELECT * FROM account_profiles WHERE account_id = $1", person.account_id)
    assert profiles == []
    await work(office)
    left = [
        await office.rows(f"SELECT t::text AS row FROM {table} t WHERE account_id = $1", person.account_id)
        for table in ("charges", "llm_usage", "product_usage_log")
    ]
    assert person.names[0] not in str(left)
    again = await account_of(office, person.user["external_id"])
    for account_id in (person.account_id, again):
        await balances(office.urls, account_id)
    assert (await verify_books(office.db, datetime.now(UTC))).ok


async def test_it_waits_for_a_movement_of_credits_under_way(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    async with account_locked(office.urls, person.account_id):
        erasing = asyncio.create_task(erase(admin, person))
        await asyncio.sleep(0.3)
        assert not erasing.done()
        assert await account_of(office, person.user["external_id"]) == person.account_id
    assert (await erasing).status_code == 200


async def test_account_made_while_its_identity_goes_is_a_new_one(office: Office, admin: httpx.AsyncClient) -> None:
    """However often both happen at once."""
    identity = Identity("live", "oauth:google", f"again-{uuid.uuid4()}")
    billing = office.app.state.billing
    ids: set[UUID] = set()
    for _ in range(10):
        made = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, datetime.now(UTC))
        person = Person(made, {"external_id": identity.external_id}, "", "")
        found, answer = await asyncio.gather(
            billing.accounts.directory.resolve(identity, Profile(), ACTOR, datetime.now(UTC)), erase(admin, person)
        )
        assert answer.status_code in (200, 404, 422)
        ids |= {made, found}
    rows = await office.rows("SELECT account_id, erased_at FROM accounts WHERE account_id = ANY($1)", list(ids))
    assert len(rows) == len(ids) > 5


async def test_interaction_that_a_caller_named_after_another_ones_report_is_renamed_too(
    office: Office, admin: httpx.AsyncClient
) -> None:
    person = await somebody(office)
    first = new_id()
    names = ["000 Jane Doe", *(f"001 {number}" for number in range(120)), str(first)]
    async with connected(office.urls) as connection:
        for number, name in enumerate(names):
            await connection.execute(
                """
                INSERT INTO llm_usage (account_id, usage_log_id, interaction_id, total_llm_calls, total_prompt_tokens,
                                       total_completion_tokens, models_used, actual_cost_cents, duration_ms,
                                       error_count, fallback_count, created_at)
                VALUES ($1, $2, $3, 1, 1, 1, '{}', 1, 1, 0, 0, now())
                """,
                UUID(str(person.account_id)),
                first if number == 0 else new_id(),
                name,
            )
    await roll_up(office.db, datetime.now(UTC) + SETTLED)
    assert (await erase(admin, person)).status_code == 200
    await work(office)
    assert await office.rows("SELECT interaction_id FROM llm_usage WHERE interaction_id LIKE '00_ %'") == []
    verification = await verify_books(office.db, datetime.now(UTC))
    assert verification.ok, verification.problem
