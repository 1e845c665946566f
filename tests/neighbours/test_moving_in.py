"""`ciris-billing import`: an export of a neighbour, moved in twice and in parts, with its users' routes afterwards."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.accounts.directory import Opening
from app.accounts.erasure import forget_texts
from app.accounts.service import AccountService
from app.configuration.service import Configuration
from app.db import Database
from app.neighbours.erasure import TEXTS
from app.neighbours.moving_in.export import BrokenRow, Origin
from app.neighbours.moving_in.reading import read_export
from app.neighbours.moving_in.service import ACTOR, MovingIn, Target
from app.receipts.chain import extend_chains
from app.verification import verify_books
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import Urls
from tests.metering.conftest import PROVIDER, Desk, usage
from tests.neighbours.conftest import ClientOf
from tests.processes import Process, run_command
from tests.receipts.books import chain_of, expected_chain
from tests.servers import environment
from tests.support.wallets import DOLLAR

EXPORTS = Path(__file__).parent / "exports"
ANN = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
USER = "11111111-2222-4333-8444-555555555555"
ACCOUNT: dict[str, Any] = {"record": "account", "user_id": USER, "balance_cents": 500}
BOUGHT: dict[str, Any] = {
    "record": "transaction",
    "id": "t1",
    "user_id": USER,
    "amount_cents": 800,
    "transaction_type": "purchase",
    "created_at": "2026-09-01T00:00:00Z",
}
USED = {**BOUGHT, "id": "t2", "amount_cents": -300, "transaction_type": "usage", "created_at": "2026-09-02T00:00:00Z"}
EVENT = {"record": "event", "user_id": USER, "event_id": "e1"}


@pytest.fixture
async def db(own_database: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(own_database.service), pool_size=4)
    yield db
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem


def written(folder: Path, *records: Mapping[str, Any]) -> Path:
    file = folder / "export.jsonl"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


async def move(db: Database, urls: Urls, file: Path, origin: Origin = "z-billing") -> dict[str, object]:
    """Plan and apply an import. Return its summary."""
    accounts = AccountService(db, Configuration(db, settings_for(urls)))
    moving = MovingIn(db, accounts, Target("live", PROVIDER, "router"))
    export = read_export(origin, file)
    planned, summary = await moving.plan(export, NOW)
    for plan in planned:
        await moving.apply(origin, plan, NOW)
    return summary.as_row()


async def books(urls: Urls) -> dict[str, list[dict[str, Any]]]:
    """Everything that an import may write."""
    tables = ("accounts", "account_identities", "account_profiles", "ledger_entries", "money_credits", "usage_keys")
    async with connected(urls) as connection:
        return {
            table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table} t ORDER BY t::text")]
            for table in (*tables, "moved_accounts")
        }


async def money_of(urls: Urls) -> list[tuple[int, ...]]:
    """Balance, purchased, granted and used, of each account, in cents."""
    names = ("money_nanos", "money_purchased_nanos", "money_granted_nanos", "money_used_nanos")
    return sorted(tuple(row[name] // 10**7 for name in names) for row in (await books(urls))["accounts"])


@pytest.mark.parametrize("origin", ["z-billing", "secondlayer"])
def test_the_command_shows_then_writes_then_changes_nothing(origin: str, own_database: Urls) -> None:
    file = next(EXPORTS.glob(f"{origin}.*"))
    arguments = ("import", origin, str(file), "--identity-provider", PROVIDER, "--json")
    shown = run_command(environment(own_database), *arguments)
    assert shown.status == 0, shown.err
    assert "Nothing was written: repeat with --apply" in shown.err
    assert (shown.json["applied"], shown.json["accounts"], shown.json["new_accounts"]) == (False, 2, 2)
    first = run_command(environment(own_database), *arguments, "--apply")
    assert first.json == {**shown.json, "applied": True}
    second = run_command(environment(own_database), *arguments, "--apply")
    assert second.json == {**first.json, "new_accounts": 0, "new_entries": 0, "new_money": "0.000000"}


@pytest.mark.parametrize(
    ("name", "origin", "money"),
    [
        ("z-billing.jsonl", "z-billing", [(0, 0, 0, 0), (1234, 2000, 500, 1266)]),
        ("secondlayer.csv", "secondlayer", [(300, 0, 300, 0), (742, 1000, 0, 257)]),
    ],
)
async def test_a_repeated_import_changes_no_row(
    name: str, origin: Origin, money: list[tuple[int, ...]], db: Database, own_database: Urls
) -> None:
    await move(db, own_database, EXPORTS / name, origin)
    before = await books(own_database)
    assert await money_of(own_database) == money
    assert (await move(db, own_database, EXPORTS / name, origin))["new_entries"] == 0
    assert await books(own_database) == before


async def test_the_rest_of_an_export_is_kept(db: Database, own_database: Urls) -> None:
    await move(db, own_database, EXPORTS / "z-billing.jsonl")
    await move(db, own_database, EXPORTS / "secondlayer.csv", "secondlayer")
    kept = {row["account_id"]: row for row in (await books(own_database))["moved_accounts"]}
    assert sorted(row["details"] for row in kept.values()) == sorted(
        [
            '{"signup_granted": true, "daily_granted_on": "2026-10-31", "stripe_customer_id": "cus_1"}',
            '{"daily_limit_usd": "10.000000", "monthly_limit_usd": "100.000000"}',
            "{}",
            "{}",
        ]
    )
    for account_id in kept:
        await forget_texts(db, account_id, [TEXTS])
    assert {row["details"] for row in (await books(own_database))["moved_accounts"]} == {"{}"}


async def test_imported_limits_are_in_force_until_an_admin_changes_them(db: Database, own_database: Urls) -> None:
    """A repeated import leaves the change. An account whose export names no limit has none."""
    await move(db, own_database, EXPORTS / "secondlayer.csv", "secondlayer")
    in_force = "SELECT time_window, amount, owner, action FROM limits ORDER BY time_window"
    async with connected(own_database) as connection:
        found = [tuple(row) for row in await connection.fetch(in_force)]
        assert found == [("day", 10 * DOLLAR, "operator", "refuse"), ("month", 100 * DOLLAR, "operator", "refuse")]
        assert [row["n"] for row in await connection.fetch("SELECT count(*) AS n FROM accounts WHERE has_limits")] == [
            1
        ]
        await connection.execute("UPDATE limits SET amount = 5 WHERE time_window = 'day'")
    await move(db, own_database, EXPORTS / "secondlayer.csv", "secondlayer")
    async with connected(own_database) as connection:
        assert [row["amount"] for row in await connection.fetch(in_force)] == [5, 100 * DOLLAR]


async def test_users_find_their_balance_and_history(desk: Desk, client_of: ClientOf) -> None:
    await move(desk.db, desk.urls, EXPORTS / "z-billing.jsonl")
    own = client_of(ANN)
    account = (await own.get("/v1/accounts/me")).json()
    names = ("balance_cents", "lifetime_purchased_cents", "lifetime_granted_cents", "lifetime_used_cents", "plan")
    assert [account[name] for name in names] == [1234, 2000, 500, 1266, "pro"]
    listed = (await own.get("/v1/credits/transactions")).json()["transactions"]
    fields = ("transaction_type", "amount_cents", "balance_after_cents", "description")
    assert [[row[name] for name in fields] for row in listed] == [
        ["usage", -1000, 1234, "Usage before the move"],
        ["usage", -266, 2234, "LLM: openai/gpt-4o"],
        ["purchase", 2000, 2500, "Purchased 2000 credits"],
        ["bonus", 500, 500, "Credits before the move"],
    ]
    assert [row["created_at"][:10] for row in listed] == ["2026-09-01", "2026-09-02", "2026-09-01", "2026-09-01"]
    repeated = await desk.router.post("/v1/usage", json=usage(ANN, "session-1:message-1"))
    assert (repeated.status_code, repeated.json()["error"]["code"]) == (409, "duplicate_event")
    sent = await desk.router.post("/v1/usage", json=usage(ANN, "session-1:message-2"))
    assert (sent.status_code, sent.json()["balance"]) == (200, "12.331000")  # the plan pro costs twice as much


async def test_users_of_secondlayer_find_their_payments(desk: Desk, client_of: ClientOf) -> None:
    await move(desk.db, desk.urls, EXPORTS / "secondlayer.csv", "secondlayer")
    rows = (await client_of("lawyer-1").get("/api/billing/history")).json()["transactions"]
    names = ("type", "amount_usd", "balance_after_usd", "payment_provider", "payment_id", "description")
    assert [[row[name] for name in names] for row in rows] == [
        ["charge", 2.5714, 7.4286, None, None, 'search: "rent, deposit"'],
        ["topup", 10, 10, None, "pi_1", "Top-up"],
    ]


async def test_a_later_export_adds_what_is_new(db: Database, own_database: Urls, tmp_path: Path) -> None:
    await move(db, own_database, written(tmp_path, ACCOUNT, BOUGHT, USED))
    later = {**USED, "id": "t3", "amount_cents": -100, "created_at": "2026-10-01T00:00:00Z"}
    summary = await move(
        db, own_database, written(tmp_path, {**ACCOUNT, "balance_cents": 400}, BOUGHT, USED, later, EVENT)
    )
    assert (summary["new_entries"], summary["new_money"]) == (1, "-1.000000")
    assert await money_of(own_database) == [(400, 800, 0, 400)]


async def test_a_later_exports_entries_follow_those_that_are_hashed(
    db: Database, own_database: Urls, tmp_path: Path
) -> None:
    """The fixture verifies the chain as well."""
    await move(db, own_database, written(tmp_path, ACCOUNT, BOUGHT, USED))
    await extend_chains(db)
    [account] = (await books(own_database))["accounts"]
    hashed = await chain_of(own_database, account["account_id"])
    later = {**USED, "id": "t3", "amount_cents": -100, "created_at": "2026-08-01T00:00:00Z"}  # before the others
    await move(db, own_database, written(tmp_path, {**ACCOUNT, "balance_cents": 400}, BOUGHT, USED, later))
    assert await extend_chains(db) == 1
    chain = await chain_of(own_database, account["account_id"])
    assert chain[:-1] == hashed
    assert chain == await expected_chain(own_database, account["account_id"])


async def test_two_imports_at_once_move_everything_once(db: Database, own_database: Urls, tmp_path: Path) -> None:
    file = written(tmp_path, ACCOUNT, BOUGHT, USED, EVENT)
    await asyncio.gather(*(move(db, own_database, file) for _ in range(3)))
    assert await money_of(own_database) == [(500, 800, 0, 300)]
    written_once = await books(own_database)
    assert [len(written_once[table]) for table in ("money_credits", "usage_keys", "moved_accounts")] == [2, 1, 1]


async def test_an_import_that_is_killed_is_repeated(own_database: Urls, tmp_path: Path, db: Database) -> None:
    users = [f"{number:08}-2222-4333-8444-555555555555" for number in range(150)]
    records = [{**record, "user_id": user} for user in users for record in (ACCOUNT, BOUGHT, USED, EVENT)]
    file = written(tmp_path, *records)
    arguments = ("import", "z-billing", str(file), "--identity-provider", PROVIDER, "--apply", "--json")
    with (tmp_path / "log").open("wb") as log:
        process = Process(arguments, environment(own_database), log, log)
    deadline = time.monotonic() + 60
    while not (await books(own_database))["moved_accounts"]:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    moved = len((await books(own_database))["moved_accounts"])
    assert 0 < moved < len(users)
    again = run_command(environment(own_database), *arguments)
    assert (again.status, again.json["accounts"]) == (0, len(users)), again.err
    assert await money_of(own_database) == [(500, 800, 0, 300)] * len(users)
    assert len((await books(own_database))["usage_keys"]) == len(users)


async def test_history_never_makes_the_balance_negative(db: Database, own_database: Urls, tmp_path: Path) -> None:
    """In any order of the neighbour's times."""
    early = {**USED, "created_at": "2026-01-01T00:00:00Z"}
    await move(db, own_database, written(tmp_path, ACCOUNT, BOUGHT, early))
    assert await money_of(own_database) == [(500, 800, 0, 300)]


BROKEN: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no user": ([{**ACCOUNT, "user_id": ""}], "line 1: user_id: "),
    "NUL": ([{**ACCOUNT, "user_id": "a\0b"}], "line 1: user_id: "),
    "negative": ([{**ACCOUNT, "balance_cents": -1}], "line 1: balance_cents: "),
    "fraction": ([{**ACCOUNT, "balance_cents": 1.5}], "line 1: balance_cents: "),
    "huge": ([{**ACCOUNT, "balance_cents": 2**63}], "line 1: balance_cents: "),
    "kind of record": ([ACCOUNT, {"record": "acount", "user_id": USER}], "line 2: record: "),
    "no record": ([{"user_id": USER}], "line 1: record: "),
    "record is a list": ([{"record": []}], "line 1: record: "),
    "twice": ([ACCOUNT, {**ACCOUNT, "user_id": USER.upper()}], "line 2: user_id: also on line 1"),
    "same id": ([ACCOUNT, BOUGHT, BOUGHT], "line 3: id: also on line 2"),
    "orphan": ([BOUGHT], "line 1: user_id: the file has no account"),
    "type": ([ACCOUNT, {**BOUGHT, "transaction_type": "x"}], "line 2: transaction_type: 'x' is unknown"),
    "zero": ([ACCOUNT, {**BOUGHT, "amount_cents": 0}], "line 2: amount_cents: "),
    "time": ([ACCOUNT, {**BOUGHT, "created_at": "2026-09-01"}], "line 2: created_at: "),
    "year": ([ACCOUNT, {**BOUGHT, "created_at": "1970-01-01T00:00:00Z"}], "line 2: created_at: "),
    "totals": ([{**ACCOUNT, "lifetime_purchased_cents": 700}, BOUGHT], "line 1: purchases are 7.000000 in all"),
    "boolean": ([{**ACCOUNT, "balance_cents": True}], "line 1: balance_cents: "),
    "more than 64 bits": (
        [ACCOUNT, *({**BOUGHT, "id": id, "amount_cents": 900_000_000_000} for id in "ab")],
        "line 1: the amounts that were added are 18000000000.000000 in all, more than 64 bits",
    ),
    "name of an opening entry": ([ACCOUNT, {**BOUGHT, "id": "opening:balance"}], "line 2: id: "),
    "event": ([ACCOUNT, {**EVENT, "event_id": "x" * 256}], "line 2: event_id: "),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_row_names_its_line(case: str, tmp_path: Path, db: Database, own_database: Urls) -> None:
    records, problem = BROKEN[case]
    good = {**ACCOUNT, "user_id": "good"}
    with pytest.raises(BrokenRow) as broken:
        await move(db, own_database, written(tmp_path, *records, good))
    assert str(broken.value).startswith(problem)
    assert (await books(own_database))["accounts"] == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("e.jsonl", b"{", "line 1: is no JSON"),
        ("e.jsonl", b"\n\n[1]", "line 3: is no JSON object"),
        ("e.jsonl", b"[" * 60_000, "line 1: is no JSON"),
        ("e.jsonl", b'{"a": "' + b"x" * 70_000 + b'"}', "line 1: is longer than"),
        ("e.jsonl", b'{"record": "account", "user_id": "\xff"}', "line 0: the file is not UTF-8"),
        (
            "e.jsonl",
            b'{"record": "account", "user_id": "a", "x": 1E-999999999, "balance_cents": 1E999999999}',
            "line 1: balance_cents: ",
        ),
        ("e.csv", b"record,user_id,balance_cents,user_id\naccount,a,1,b\n", "line 1: has two columns user_id"),
        ("e.csv", b"record,user_id\naccount\n", "line 2: has another number of cells"),
        ("e.csv", b"record,user_id\naccount,a,b\n", "line 2: has another number of cells"),
        ("e.csv", b'record,user_id\naccount,"a"b\n', "line 1: is no CSV"),
    ],
)
def test_a_broken_file_names_its_line(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BrokenRow) as broken:
        read_export("z-billing", tmp_path / name)
    assert str(broken.value).startswith(problem)


@pytest.mark.parametrize(
    ("later", "problem"),
    [
        ([ACCOUNT, {**BOUGHT, "amount_cents": 900}, USED], "line 1: t1 is 9.000000, and was imported as 8.000000"),
        ([{**ACCOUNT, "balance_cents": 600}, BOUGHT, USED], "line 1: the totals do not fit the earlier import"),
    ],
)
async def test_a_later_export_that_contradicts_an_earlier_one(
    later: list[dict[str, Any]], problem: str, db: Database, own_database: Urls, tmp_path: Path
) -> None:
    await move(db, own_database, written(tmp_path, ACCOUNT, BOUGHT, USED))
    before = await books(own_database)
    with pytest.raises(BrokenRow) as broken:
        await move(db, own_database, written(tmp_path, *later))
    assert str(broken.value).startswith(problem)
    assert await books(own_database) == before


def test_mistakes_of_the_command(own_database: Urls, tmp_path: Path) -> None:
    env = environment(own_database)
    missing = run_command(env, "import", "z-billing", str(tmp_path / "none"), "--identity-provider", PROVIDER)
    assert (missing.status, "No such file" in missing.err) == (1, True)
    file = str(written(tmp_path, {**ACCOUNT, "balance_cents": -1}))
    broken = run_command(env, "import", "z-billing", file, "--identity-provider", PROVIDER, "--apply")
    assert (broken.status, f"{file}: line 1: balance_cents: " in broken.err) == (1, True)
    for options in (("google",), (PROVIDER, "--event-source", "a b"), (PROVIDER, "--event-source", "x" * 256)):
        assert run_command(env, "import", "z-billing", file, "--identity-provider", *options).status == 2, options


async def test_an_account_that_is_closed_is_named(
    db: Database, own_database: Urls, tmp_path: Path, client_of: ClientOf
) -> None:
    file = written(tmp_path, ACCOUNT)
    await move(db, own_database, file)
    accounts = AccountService(db, Configuration(db, settings_for(own_database)))
    [row] = (await books(own_database))["accounts"]
    await accounts.set_status(row["account_id"], "closed", None, NOW)
    with pytest.raises(BrokenRow, match="line 1: the user's account is closed"):
        await move(db, own_database, file)


async def test_an_account_that_was_opened_in_another_currency_since_the_plan_is_named(
    db: Database, own_database: Urls, tmp_path: Path
) -> None:
    accounts = AccountService(db, Configuration(db, settings_for(own_database)))
    moving = MovingIn(db, accounts, Target("live", PROVIDER, "router"))
    [plan], _ = await moving.plan(read_export("z-billing", written(tmp_path, ACCOUNT)), NOW)
    await accounts.directory.find_or_create(plan.identity, ACTOR, NOW, Opening(currency="EUR"))
    with pytest.raises(BrokenRow, match="line 1: the user's account is in EUR, not in USD"):
        await moving.apply("z-billing", plan, NOW)
