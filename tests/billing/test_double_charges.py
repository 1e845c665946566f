"""Probable double charges: the same purpose under another idempotency key, by keys that ask for it."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.auth.api_keys.service import create_key
from app.auth.caller import DoubleCharges, Permission
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.db.driver_pool import BatchTransaction
from app.ledger.outcomes import New
from tests.billing.test_charges import User, body, open_account
from tests.books import account_locked, balances, waiting_for_locks
from tests.conftest import ACTOR, ClientFor
from tests.databases import Urls

SINGLE, BATCH = "/v1/billing/charges", "/v1/billing/charges/batch"
HEADER = "Probable-Double-Charge"
Client = Callable[[DoubleCharges], Awaitable[httpx.AsyncClient]]


@pytest.fixture
def client(db: Database, client_for: ClientFor) -> Client:
    """A client by a new key with a policy."""

    async def open_client(policy: DoubleCharges) -> httpx.AsyncClient:
        async with db.transaction() as tx:
            key = await create_key(
                tx,
                environment="live",
                name="tests",
                permissions={Permission.READ, Permission.WRITE, Permission.CREDIT},
                now=datetime.now(UTC),
                double_charges=policy,
            )
        return client_for(key.secret_text)

    return open_client


def purposed(user: User, key: str | None, **fields: Any) -> dict[str, object]:
    return body(user, key, description="An answer", metadata={"request_id": "r1"}, **fields)


async def test_a_flagged_charge_names_the_first_one(client: Client, user: User, database: Urls) -> None:
    agent = await client("flag")
    first = await agent.post(SINGLE, json=purposed(user, "10:01"))
    second = await agent.post(SINGLE, json=purposed(user, "10:02"))
    third = await agent.post(SINGLE, json=purposed(user, None))
    assert [answer.status_code for answer in (first, second, third)] == [201] * 3
    assert HEADER not in first.headers
    assert {answer.headers[HEADER] for answer in (second, third)} == {first.json()["charge_id"]}
    assert set(second.json()) == set(first.json())
    assert (await balances(database, first.json()["account_id"]))["free"] == 0


async def test_a_refused_charge_answers_with_the_first_one(client: Client, user: User, database: Urls) -> None:
    agent = await client("refuse")
    first = await agent.post(SINGLE, json=purposed(user, "10:01"))
    for key in ("10:02", "10:02", None):
        refused = await agent.post(SINGLE, json=purposed(user, key))
        assert refused.status_code == 409
        assert refused.headers["X-Existing-Charge-ID"] == refused.headers[HEADER] == first.json()["charge_id"]
        assert "Idempotency-Replayed" not in refused.headers
        problem = refused.json()
        assert problem.pop("code") == "probable_double_charge"
        assert {name: problem[name] for name in first.json()} == first.json()
    assert (await balances(database, first.json()["account_id"]))["free"] == 2
    by_key = await agent.get(f"{SINGLE}/by-key", params={**user, "idempotency_key": "10:02"})
    assert by_key.status_code == 404


@pytest.mark.parametrize("policy", ["flag", "refuse"])
async def test_a_replay_is_no_double(policy: DoubleCharges, client: Client, user: User) -> None:
    agent = await client(policy)
    first = await agent.post(SINGLE, json=purposed(user, "k"))
    again = await agent.post(SINGLE, json=purposed(user, "k"))
    assert (again.status_code, again.json()["code"]) == (409, "charge_exists")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert HEADER not in again.headers
    assert again.json()["charge_id"] == first.json()["charge_id"]


async def test_a_replay_of_a_flagged_charge_is_no_double(client: Client, user: User) -> None:
    agent = await client("flag")
    for key in ("a", "b"):
        await agent.post(SINGLE, json=purposed(user, key))
    again = await agent.post(SINGLE, json=purposed(user, "b"))
    assert (again.status_code, again.json()["code"], HEADER in again.headers) == (409, "charge_exists", False)


OTHERS: list[dict[str, Any]] = [
    {"metadata": {"request_id": "r2"}},
    {"description": "Another answer"},
    {"description": None},
    {"amount_minor": 200},
    {"metadata": {"message_id": "r1"}},
    {"metadata": None},
]


@pytest.mark.parametrize("change", OTHERS, ids=str)
async def test_another_purpose_is_no_double(change: dict[str, Any], client: Client, user: User) -> None:
    agent = await client("refuse")
    for number, fields in enumerate(({}, change)):
        answer = await agent.post(SINGLE, json={**purposed(user, f"k{number}"), **fields})
        assert answer.status_code == 201, answer.text


async def test_a_request_without_an_id_is_never_a_double(client: Client, user: User) -> None:
    agent = await client("refuse")
    answers = [await agent.post(SINGLE, json=body(user, key, description="An answer")) for key in ("a", "b")]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_other_users_and_other_keys(client: Client, agent: httpx.AsyncClient, user: User) -> None:
    """A purpose belongs to an account. A key that ignores doubles neither finds nor leaves one."""
    flagging, refusing = await client("flag"), await client("refuse")
    other = {**user, "external_id": f"other-{user['external_id']}"}
    assert (await agent.post(SINGLE, json=purposed(user, "a"))).status_code == 201
    first = await flagging.post(SINGLE, json=purposed(user, "b"))
    assert (first.status_code, HEADER in first.headers) == (201, False)
    assert (await refusing.post(SINGLE, json=purposed(other, "c"))).status_code == 201
    assert (await refusing.post(SINGLE, json=purposed(user, "d"))).json()["charge_id"] == first.json()["charge_id"]
    assert (await agent.post(SINGLE, json=purposed(user, "e"))).status_code == 201


async def test_a_charge_that_was_not_paid_is_not_the_first(client: Client, user: User) -> None:
    agent = await client("refuse")
    dear = purposed(user, "a", amount_minor=1_000)
    assert (await agent.post(SINGLE, json=dear)).status_code == 402
    credit = {**user, "amount_minor": 2_000, "transaction_type": "grant"}
    assert (await agent.post("/v1/billing/credits", json=credit)).status_code == 201
    assert (await agent.post(SINGLE, json={**dear, "idempotency_key": "b"})).status_code == 201
    assert (await agent.post(SINGLE, json={**dear, "idempotency_key": "c"})).status_code == 409


async def test_charges_of_a_batch(client: Client, agent: httpx.AsyncClient, user: User) -> None:
    """A double within the batch, too. A refused one is not recorded, so it counts as failed."""
    flagging, refusing = await client("flag"), await client("refuse")
    charges = [purposed(user, "a"), purposed(user, "b"), purposed(user, "a")]
    reply = (await flagging.post(BATCH, json={"charges": charges})).json()
    ids = [result["body"]["charge_id"] for result in reply["results"]]
    assert [result["probable_double_of"] for result in reply["results"]] == [None, ids[0], None]
    assert [result["status"] for result in reply["results"]] == [201, 201, 409]
    assert (reply["processed"], reply["replayed"], reply["failed"]) == (2, 1, 0)
    answer = await refusing.post(BATCH, json={"charges": [purposed(user, "c")]})
    assert "Idempotency-Replayed" not in answer.headers
    [refused] = answer.json()["results"]
    assert (refused["status"], refused["success"], refused["probable_double_of"]) == (409, False, None)
    assert (refused["body"]["code"], refused["body"]["charge_id"]) == ("probable_double_charge", ids[0])
    assert (answer.json()["replayed"], answer.json()["failed"]) == (0, 1)
    [unwatched] = (await agent.post(BATCH, json={"charges": [purposed(user, "d")]})).json()["results"]
    assert set(unwatched) == {"idempotency_key", "success", "status", "body"}


async def test_many_callers_at_once_make_one_first_charge(
    db: Database, billing: BillingService, user: User, identity: Any, now: datetime, database: Urls
) -> None:
    """Two batchers that share nothing, as in two processes: singles and series of other keys, released together."""
    account_id = await open_account(billing, identity, now, paid=100)
    other = BillingService(db, billing.configuration)

    def charge(number: int, policy: DoubleCharges) -> ChargeRequest:
        details = {"request_id": "r"}
        return ChargeRequest(account_id, 100, None, ACTOR, now, f"k{number}", None, details, double_charges=policy)

    async with account_locked(database, account_id):
        running = [
            asyncio.create_task(service.charge_many([charge(number, "refuse")]))
            for number in range(10)
            for service in (billing, other)
        ]
        await waiting_for_locks(database, 4)
    outcomes = [outcome for [outcome] in await asyncio.gather(*running)]
    kinds = Counter(type(outcome).__name__ for outcome in outcomes)
    # A key is sent to both services: one of the pair of the first charge is its replay.
    assert kinds == {"New": 1, "Replayed": 1, "Refused": 18}
    [first] = [outcome.record for outcome in outcomes if isinstance(outcome, New)]
    flagged = await asyncio.gather(*(billing.charge(charge(20 + number, "flag")) for number in range(9)))
    assert [outcome.record.double_of for outcome in flagged if isinstance(outcome, New)] == [first.charge_id] * 9
    assert (await balances(database, account_id))["paid"] == 100 + 3 - 10


async def test_singles_and_batches_in_one_transaction_see_each_other(
    client: Client, user: User, database: Urls
) -> None:
    """The batcher decides different operations of one transaction one after the other, and writes at its end."""
    agent = await client("refuse")
    account_id = (await agent.post("/v1/billing/accounts", json=user)).json()["account_id"]
    async with account_locked(database, account_id):
        first = asyncio.create_task(agent.post(SINGLE, json=body(user, "opens the next batch")))
        await waiting_for_locks(database, 1)
        running = [
            asyncio.create_task(agent.post(SINGLE, json=purposed(user, "single"))),
            asyncio.create_task(agent.post(BATCH, json={"charges": [purposed(user, "batch")]})),
        ]
        for _ in range(200):  # until both wait for the next transaction
            await asyncio.sleep(0)
    await first
    single, batch = await asyncio.gather(*running)
    assert sorted([single.status_code, batch.json()["results"][0]["status"]]) == [201, 409]


async def test_keys_that_ignore_doubles_run_the_same_statements(
    client: Client, agent: httpx.AsyncClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    fetch, write = BatchTransaction.fetch, BatchTransaction.write

    async def noted_fetch(self: BatchTransaction, sql: str, *values: object) -> Any:
        sent.append(sql)
        return await fetch(self, sql, *values)

    def noted_write(self: BatchTransaction, sql: str, *values: object) -> None:
        sent.append(sql)
        write(self, sql, *values)

    monkeypatch.setattr(BatchTransaction, "fetch", noted_fetch)
    monkeypatch.setattr(BatchTransaction, "write", noted_write)
    assert (await agent.post(SINGLE, json=purposed(user, "a"))).status_code == 201
    assert sent
    assert [sql for sql in sent if "charge_purposes" in sql] == []
    flagging = await client("flag")
    sent.clear()
    charges = [purposed(user, uuid.uuid4().hex, amount_minor=amount) for amount in (101, 102)]
    await flagging.post(BATCH, json={"charges": charges})
    about = [sql for sql in sent if "charge_purposes" in sql and not sql.startswith("WITH")]  # not all writes together
    assert [sql.split()[0] for sql in about] == ["SELECT", "INSERT"]
