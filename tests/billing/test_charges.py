"""Charges: an account pays exactly what its credits cover, each key once, through races, crashes and waits."""

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.auth.caller import Permission
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.outcomes import New, Refused, Replayed
from app.ledger.pools import Credits, Shortfall
from tests.books import account_locked, balances, connected, counts
from tests.conftest import ACTOR, make_key, settings_for
from tests.databases import Urls
from tests.servers import running_server

User = dict[str, str]


def body(user: User, key: str | None = None, amount_minor: int = 100, **fields: object) -> dict[str, object]:
    return {**user, "amount_minor": amount_minor, "currency": "USD", "idempotency_key": key, **fields}


async def open_account(billing: BillingService, identity: Identity, now: datetime, paid: int = 0) -> UUID:
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    if paid:
        await billing.credit(
            account_id, credits=Credits(paid), currency="USD", transaction_type="grant", actor=ACTOR, now=now
        )
    return account_id


def request(account_id: UUID, now: datetime, key: str | None = None, amount_minor: int = 100) -> ChargeRequest:
    return ChargeRequest(account_id, amount_minor, "USD", ACTOR, now, idempotency_key=key)


async def test_parallel_charges_never_overspend(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    """Forty charges for three free uses: three succeed."""
    answers = await asyncio.gather(*(agent.post("/v1/billing/charges", json=body(user, f"k{i}")) for i in range(40)))
    assert Counter(answer.status_code for answer in answers) == {201: 3, 402: 37}
    account = next(answer.json()["account_id"] for answer in answers if answer.status_code == 201)
    assert await balances(database, account) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


async def test_parallel_charges_of_many_sizes_spend_exactly_what_is_there(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now, paid=97)
    outcomes = await asyncio.gather(
        *(billing.charge(request(account_id, now, amount_minor=100 * random.randint(1, 7))) for _ in range(120)),
        *(billing.charge(request(account_id, now)) for _ in range(120)),
    )
    spent = sum(outcome.record.cost for outcome in outcomes if isinstance(outcome, New))
    assert spent == 100  # the three free uses and the 97: single charges take the credits that the large ones leave
    assert all(isinstance(outcome, New | Shortfall) for outcome in outcomes)
    assert (await balances(database, account_id))["paid"] == 0


async def test_batches_without_the_batcher_never_overspend(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    """The same through transactions that really run side by side, each waiting for the account's lock."""
    account_id = await open_account(billing, identity, now, paid=10)
    outcomes = await asyncio.gather(*(billing.charge_many([request(account_id, now)]) for _ in range(40)))
    assert Counter(type(outcome).__name__ for [outcome] in outcomes) == {"New": 13, "Shortfall": 27}
    assert (await balances(database, account_id))["paid"] == 0


async def test_two_services_never_overspend(
    db: Database, billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    """Two batchers that share nothing, as in two processes."""
    account_id = await open_account(billing, identity, now, paid=47)
    other = BillingService(db, billing.configuration)
    outcomes = await asyncio.gather(
        *(service.charge(request(account_id, now)) for _ in range(100) for service in (billing, other))
    )
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"New": 50, "Shortfall": 150}
    assert (await balances(database, account_id))["paid"] == 0


async def test_two_server_processes_never_overspend(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    user = {"oauth_provider": "oauth:google", "external_id": "both@example.com"}
    with running_server(own_database) as one, running_server(own_database) as two:
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as client:
            credit = {**user, "amount_minor": 5000, "transaction_type": "grant"}
            await client.post(f"{one.url}/v1/billing/check", json=user)
            account = (await client.post(f"{one.url}/v1/billing/credits", json=credit)).json()["account_id"]
            answers = await asyncio.gather(
                *(
                    client.post(f"{server.url}/v1/billing/charges", json=body(user, f"{i}-{server.url}"))
                    for i in range(60)
                    for server in (one, two)
                )
            )
    assert Counter(answer.status_code for answer in answers) == {201: 53, 402: 67}
    assert await balances(own_database, account) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


async def test_of_fifty_equal_requests_exactly_one_is_new(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    answers = await asyncio.gather(*(agent.post("/v1/billing/charges", json=body(user, "storm")) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    assert len({answer.json()["charge_id"] for answer in answers}) == 1
    replays = [answer for answer in answers if answer.status_code == 409]
    assert {answer.headers["X-Existing-Charge-ID"] for answer in replays} == {replays[0].json()["charge_id"]}
    assert (await balances(database, replays[0].json()["account_id"]))["free"] == 2


async def test_key_with_another_amount_or_currency_is_refused(agent: httpx.AsyncClient, user: User) -> None:
    await agent.post("/v1/billing/charges", json=body(user, "key"))
    for changes in ({"amount_minor": 200}, {"currency": "EUR"}):
        answer = await agent.post("/v1/billing/charges", json={**body(user, "key"), **changes})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_keys_belong_to_their_account(agent: httpx.AsyncClient, user: User) -> None:
    other = {**user, "external_id": f"other-{user['external_id']}"}
    answers = [await agent.post("/v1/billing/charges", json=body(who, "same key")) for who in (user, other)]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_replay_never_writes(agent: httpx.AsyncClient, user: User, own_database: Urls, database: Urls) -> None:
    await agent.post("/v1/billing/charges", json=body(user, "key"))
    before = await counts(database)
    answers = [await agent.post("/v1/billing/charges", json=body(user, "key", description=f"{i}")) for i in range(20)]
    assert {answer.status_code for answer in answers} == {409}
    assert await counts(database) == before


async def test_broken_connections_lose_and_double_nothing(
    identity: Identity, now: datetime, own_database: Urls
) -> None:
    """An operation reported as done happened exactly once; one that failed happened at most once."""
    settings = settings_for(own_database)
    db = Database(settings.database_url)
    billing = BillingService(db, Configuration(db, settings))
    account_id = await open_account(billing, identity, now, paid=1000)
    answers: dict[str, bool] = {}

    async def charge(key: str) -> None:
        try:
            outcome = await billing.charge(request(account_id, now, key))
            answers[key] = isinstance(outcome, New | Replayed)
        except Exception:
            answers[key] = False

    async with connected(own_database) as saboteur:
        for round_ in range(8):
            tasks = [asyncio.create_task(charge(f"{round_}-{i}")) for i in range(25)]
            await asyncio.sleep(random.uniform(0, 0.01))
            await saboteur.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'ciris-billing'"
            )
            await asyncio.gather(*tasks)
        rows = await saboteur.fetch("SELECT idempotency_key FROM charges WHERE account_id = $1", account_id)
    recorded = Counter(row["idempotency_key"] for row in rows)
    assert all(recorded[key] == 1 for key, acknowledged in answers.items() if acknowledged)
    assert all(recorded[key] <= 1 for key in answers)
    assert sum((await balances(own_database, account_id)).values()) == 1003 - len(rows)
    await db.close()


async def test_killed_server_leaves_one_effect(own_database: Urls) -> None:
    """SIGKILL at a random moment of a charge, then the same charge to another process: charged once."""
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    user = {"oauth_provider": "oauth:google", "external_id": "killed@example.com"}
    async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as client:
        with running_server(own_database) as survivor:
            credit = {**user, "amount_minor": 100_000, "transaction_type": "grant"}
            await client.post(f"{survivor.url}/v1/billing/check", json=user)
            account = (await client.post(f"{survivor.url}/v1/billing/credits", json=credit)).json()["account_id"]
            for i in range(4):
                with running_server(own_database) as victim:
                    url = f"{victim.url}/v1/billing/charges"
                    await client.post(f"{victim.url}/v1/billing/check", json=user)
                    async with contextlib.AsyncExitStack() as stack:
                        if i == 0:  # certainly in the middle: it waits for the lock
                            await stack.enter_async_context(account_locked(own_database, account))
                        charge = asyncio.create_task(client.post(url, json=body(user, f"k{i}")))
                        await asyncio.sleep(0.2 if i == 0 else random.uniform(0, 0.012))
                        victim.kill()
                        with contextlib.suppress(httpx.HTTPError):
                            await charge
                answer = await client.post(f"{survivor.url}/v1/billing/charges", json=body(user, f"k{i}"))
                assert answer.status_code in (201, 409)
    async with connected(own_database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM charges") == 4
    assert sum((await balances(own_database, account)).values()) == 1003 - 4


async def test_commit_that_fails_never_reaches_the_client_as_success(own_database: Urls) -> None:
    async with connected(own_database) as connection:
        await connection.execute(
            """
            CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'serialization_failure'; END $$;
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON charges DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION fail_at_commit();
            """
        )
    settings = settings_for(own_database)
    db = Database(settings.database_url)
    key = await make_key(db, "live", *Permission)
    await db.close()
    with running_server(own_database) as server:
        async with httpx.AsyncClient(headers={"X-API-Key": key}) as client:
            user = {"oauth_provider": "oauth:google", "external_id": "a"}
            answer = await client.post(f"{server.url}/v1/billing/charges", json=body(user, "key"))
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert (await counts(own_database))["charges"] == 0


async def test_a_charge_spans_pools_in_order(db: Database, identity: Identity, now: datetime, database: Urls) -> None:
    billing = BillingService(db, Configuration(db, settings_for(database, daily_free_uses=2)))
    account_id = await open_account(billing, identity, now, paid=10)
    outcome = await billing.charge(request(account_id, now, amount_minor=700))
    assert isinstance(outcome, New)
    assert (outcome.record.cost, outcome.record.paid_after) == (7, 8)
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 8, "debt": 0}


async def test_daily_free_uses_come_back_at_midnight(
    db: Database, identity: Identity, now: datetime, database: Urls
) -> None:
    billing = BillingService(db, Configuration(db, settings_for(database, daily_free_uses=2, free_uses=0)))
    account_id = await open_account(billing, identity, now)
    midnight = datetime(2031, 5, 1, tzinfo=UTC)
    before = midnight - timedelta(microseconds=1)
    kinds = [type(await billing.charge(request(account_id, before))).__name__ for _ in range(3)]
    assert kinds == ["New", "New", "Shortfall"]
    assert (await billing.check(account_id, before)).daily_free == 0
    assert (await billing.check(account_id, midnight)).daily_free == 2
    assert isinstance(await billing.charge(request(account_id, midnight)), New)
    assert isinstance(await billing.charge(request(account_id, before)), New)  # a clock that steps back
    assert isinstance(await billing.charge(request(account_id, before)), Shortfall)
    assert (await balances(database, account_id))["daily_free"] == 0


async def test_suspended_account_is_refused_but_its_replays_are_answered(
    agent: httpx.AsyncClient, billing: BillingService, user: User, now: datetime
) -> None:
    account = UUID((await agent.post("/v1/billing/charges", json=body(user, "before"))).json()["account_id"])
    await billing.accounts.set_status(account, "suspended", "chargeback", now)
    refused = await agent.post("/v1/billing/charges", json=body(user, "after"))
    assert (refused.status_code, refused.json()["detail"]) == (403, "Account suspended: chargeback")
    assert (await agent.post("/v1/billing/charges", json=body(user, "before"))).status_code == 409
    check = (await agent.post("/v1/billing/check", json=user)).json()
    assert (check["has_credit"], check["reason"], check["free_uses_remaining"]) == (False, "Account suspended", 0)
    assert check["purchase_required"] is False
    await billing.accounts.set_status(account, "active", None, now)
    assert (await agent.post("/v1/billing/charges", json=body(user, "after"))).status_code == 201


async def test_unknown_account_is_refused(billing: BillingService, now: datetime) -> None:
    outcome = await billing.charge(request(uuid.uuid4(), now))
    assert isinstance(outcome, Refused)


async def test_one_batch_decides_in_order(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now)
    keys = ["a", "b", "a", "c", "d", "b"]
    outcomes = await billing.charge_many([request(account_id, now, key) for key in keys])
    assert [type(o).__name__ for o in outcomes] == [
        "New",
        "New",
        "Replayed",
        "New",
        "Shortfall",
        "Replayed",
    ]
    assert (await balances(database, account_id))["free"] == 0


async def test_database_that_goes_away_answers_503_in_time_and_comes_back(own_database: Urls) -> None:
    """PostgreSQL ends every connection and accepts no new one: 503 with Retry-After within 5 s; then it resumes."""
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    user = {"oauth_provider": "oauth:google", "external_id": "away@example.com"}
    address, name = own_database.superuser.rsplit("/", 1)
    administrator = await asyncpg.connect(f"{address}/postgres")
    with running_server(own_database) as server:
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=5) as client:
            url = f"{server.url}/v1/billing/charges"
            assert (await client.post(url, json=body(user, "before"))).status_code == 201
            await administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            answers = [await client.post(url, json=body(user, f"{i}")) for i in range(3)]
            assert (await client.get(f"{server.url}/health")).status_code == 503
            await administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            assert {answer.status_code for answer in answers} == {503}, server.printed()
            assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
            for _ in range(600):
                answer = await client.post(url, json=body(user, "after"))
                if answer.status_code == 201:
                    break
                await asyncio.sleep(0.1)
            assert answer.status_code == 201
    await administrator.close()
