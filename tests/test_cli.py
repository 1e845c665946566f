"""The commands as an operator types them, each in a separate process: their output, and their exit status."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.main import get_command

from app.accounts.directory import Identity, Profile
from app.billing.service import BillingService
from app.cli import cli
from app.configuration import queries
from app.configuration.providers import seal_keys
from app.configuration.sealing import Sealer
from app.configuration.service import Configuration
from app.db import Database
from app.issuers import Issuer
from app.main import create_app
from app.settings import Settings
from app.stripe_keys import StripeKeys
from tests.auth.test_changes_spread import PROMISE_S
from tests.auth.test_user_tokens import issuer, mint
from tests.books import connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import RunningOIDC, running_oidc
from tests.processes import Printed, run_command
from tests.servers import environment, serving

DONE, FAILED, USAGE, UNUSABLE = 0, 1, 2, 3
USER = ("--provider", "oauth:google", "--external-id", "a:b/c@example.com")


def run(env: dict[str, str], *arguments: str, stdin: str = os.devnull) -> Printed:
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "MODE")}
    done = run_command({**inherited, **env}, *arguments, stdin=stdin)
    assert "Traceback" not in done.err, done.err
    return done


@pytest.fixture
def env(own_database: Urls) -> dict[str, str]:
    return environment(own_database)


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture
async def account_id(own_database: Urls) -> str:
    settings = settings_for(own_database)
    db = Database(settings.database_url)
    identity = Identity("live", "oauth:google", "a:b/c@example.com")
    found = await BillingService(db, Configuration(db, settings)).accounts.directory.resolve(
        identity, Profile(), ACTOR, datetime.now(UTC)
    )
    await db.close()
    return str(found)


@pytest.fixture
async def empty_database() -> AsyncIterator[Urls]:
    name = f"empty_{uuid.uuid4().hex}"
    yield await create_database(name, template=None)
    await drop_database(name)


def test_keys_live_and_end(env: dict[str, str]) -> None:
    permissions = ("--permission", "billing:read", "--permission", "billing:write")
    subject = ("--client-subject", "CN=agent-7,O=Example")
    made = run(env, "keys", "create", "--name", "agent", *permissions, *subject, "--environment", "test", "--json")
    assert made.status == DONE
    key_id = made.json["key_id"]
    assert made.json["api_key"].startswith(f"cbk_test_{key_id}_")
    rotated = run(env, "keys", "rotate", key_id, "--json")
    assert rotated.json["key_id"] != key_id
    again = run(env, "keys", "rotate", key_id)
    assert (again.status, again.out) == (FAILED, "")
    assert run(env, "keys", "revoke", key_id).status == DONE
    listed = run(env, "keys", "list", "--json")
    assert {key["client_subject"] for key in listed.json} == {"CN=agent-7,O=Example"}
    assert {key["key_id"]: key["status"] for key in listed.json} == {
        key_id: "revoked",
        rotated.json["key_id"]: "active",
    }
    assert listed.json[0]["permissions"] == ["billing:read", "billing:write"]
    secret = made.json["api_key"].rsplit("_", 1)[1]
    assert secret not in listed.out + run(env, "keys", "list").out
    assert run(env, "keys", "list", "--environment", "live", "--json").json == []


def test_keys_report_usage_under_a_source_that_survives_rotation(env: dict[str, str]) -> None:
    terms = (
        "--identity-provider",
        "oauth:zero",
        "--usage-policy",
        "debt",
        "--debt-limit",
        "5",
        "--max-cost",
        "0.000000001",
    )
    key = run(env, "keys", "create", "--name", "gateway", "--permission", "usage:set_cost", *terms, "--json").json
    successor = run(env, "keys", "rotate", key["key_id"], "--json").json["key_id"]
    last = run(env, "keys", "rotate", successor, "--json").json["key_id"]
    listed = {row["key_id"]: row for row in run(env, "keys", "list", "--json").json}
    assert [listed[key_id]["event_source"] for key_id in (key["key_id"], successor, last)] == [
        f"api-key:{key['key_id']}"
    ] * 3
    assert listed[last]["permissions"] == ["usage:set_cost"]


def test_keys_refuse_what_is_wrong(env: dict[str, str]) -> None:
    for amount in ("-1", "a", "NaN", "1e999999", "0.0000000001", "9" * 5000):
        limit = run(env, "keys", "create", "--name", "a", "--permission", "usage:write", "--debt-limit", amount)
        assert (limit.status, "Traceback" in limit.err) == (USAGE, False), amount
    unknown = run(env, "keys", "revoke", "nobody")
    assert (unknown.status, unknown.err) == (FAILED, "API key not found\n")
    address = run(env, "keys", "create", "--name", "a", "--permission", "billing:read", "--allow", "1.2.3.999")
    assert address.status == FAILED
    assert "1.2.3.999" in address.err
    assert run(env, "keys", "create", "--name", "a", "--permission", "billing:mint").status == USAGE


async def test_tokens_revoke_ends_one_token_within_a_second(
    env: dict[str, str], own_database: Urls, oidc: RunningOIDC, tmp_path: Path
) -> None:
    leaked, other = (mint(oidc, sub="a:b/c", exp=2_000_000_000) for _ in range(2))
    settings = settings_for(own_database, issuers=[issuer(oidc)])
    with serving(create_app(settings)) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert [await _status(client, token) for token in (leaked, other)] == [200, 200]
            revoked = _revoke(env, tmp_path, f"  {leaked}\n", "--json", issuers=[issuer(oidc)])
            begun = time.monotonic()
            while (last := await _status(client, leaked)) == 200:
                assert time.monotonic() - begun < PROMISE_S
            assert (last, await _status(client, other)) == (401, 200)
    assert revoked.status == DONE, revoked.err
    assert {name: revoked.json[name] for name in ("environment", "oauth_provider", "external_id")} == {
        "environment": "live",
        "oauth_provider": "oauth:local",
        "external_id": "a:b/c",
    }
    async with connected(own_database) as connection:
        (row,) = await connection.fetch("SELECT token_id, expires_at FROM revoked_tokens")
    assert (revoked.json["token_id"], revoked.json["expires_at"]) == (row["token_id"], str(row["expires_at"]))
    again = _revoke(env, tmp_path, leaked, issuers=[issuer(oidc)])
    assert (again.status, f"token_id={row['token_id']}" in again.out) == (DONE, True)
    for printed in (revoked, again):
        assert not any(part in printed.out + printed.err for part in leaked.split("."))


async def test_tokens_revoke_refuses_what_no_service_accepts(
    env: dict[str, str], own_database: Urls, oidc: RunningOIDC, tmp_path: Path
) -> None:
    expired, forged = (mint(oidc, faults=[fault]) for fault in ("expired", "bad_signature"))
    two = f"{mint(oidc)}\n{mint(oidc)}\u00e9"
    refused = {expired: "expired", forged: "bad signature", two: "malformed", "a" * 20_000: "too long"}
    for token, reason in refused.items():
        answer = _revoke(env, tmp_path, token, issuers=[issuer(oidc)])
        assert (answer.status, answer.out, answer.err) == (FAILED, "", f"Invalid token: {reason}\n")
    assert _revoke(env, tmp_path, "\n", issuers=[issuer(oidc)]).status == USAGE
    away = issuer(oidc, jwks_url="http://127.0.0.1:1/jwks")
    answer = _revoke({**env, "LOG_LEVEL": "ERROR"}, tmp_path, mint(oidc), issuers=[away])
    assert (answer.status, answer.out) == (UNUSABLE, "")
    assert answer.err == "The identity provider does not answer, retry shortly\n"
    async with connected(own_database) as connection:
        assert await connection.fetch("SELECT FROM revoked_tokens") == []


def test_tokens_revoke_says_that_it_waits_for_a_token_to_be_typed(env: dict[str, str]) -> None:
    ours, terminal = os.openpty()
    os.write(ours, b"a.b.c\n\x04")
    answer = run(env, "tokens", "revoke", stdin=os.ttyname(terminal))
    os.close(ours)
    os.close(terminal)
    assert answer.status == FAILED
    assert answer.err.startswith("Reading the token from standard input: ")


def _revoke(env: dict[str, str], folder: Path, token: str, *options: str, issuers: list[Issuer]) -> Printed:
    """`tokens revoke` of a token that a file holds."""
    (folder / "token").write_text(token)
    settings = {"ISSUERS": json.dumps([one.model_dump() for one in issuers])}
    return run({**env, **settings}, "tokens", "revoke", *options, stdin=str(folder / "token"))


async def _status(client: httpx.AsyncClient, token: str) -> int:
    answer = await client.post("/v1/billing/credits/check", json={}, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def test_admins_come_and_go(env: dict[str, str]) -> None:
    assert run(env, "admins", "add", "Ada@Example.com", "--role", "support").status == DONE
    (admin,) = run(env, "admins", "list", "--json").json
    assert (admin["email"], admin["role"], admin["disabled_at"]) == ("ada@example.com", "support", None)
    assert run(env, "admins", "remove", "ada@example.com").status == DONE
    assert all(admin["disabled_at"] for admin in run(env, "admins", "list", "--json").json)
    assert run(env, "admins", "remove", "nobody@example.com").status == FAILED


def test_account_is_credited_suspended_and_reopened(env: dict[str, str], account_id: str) -> None:
    credit = ("accounts", "credit", "20", "--reason", "sorry", "--idempotency-key", "k", "--json")
    first = run(env, *credit, *USER)
    assert (first.status, first.json["paid_after"], first.json["replayed"]) == (DONE, 20, False)
    second = run(env, *credit, "--account-id", account_id)
    assert (second.json["credit_id"], second.json["replayed"]) == (first.json["credit_id"], True)
    assert run(env, "accounts", "suspend", "--reason", "fraud", *USER).status == DONE
    shown = run(env, "accounts", "show", "--account-id", account_id, "--json").json
    assert (shown["account_id"], shown["paid"], shown["status"]) == (account_id, 20, "suspended")
    assert run(env, "accounts", "reopen", *USER).status == DONE
    assert "status=active" in run(env, "accounts", "show", *USER).out


def test_billing_of_an_account_is_switched_off_and_on(env: dict[str, str], account_id: str) -> None:
    for state, enabled, before in (("off", False, True), ("off", False, False), ("on", True, False)):
        answer = run(env, "accounts", "billing", state, "--reason", "a partner", *USER, "--json").json
        assert answer == {"account_id": account_id, "billing_enabled": enabled, "before": before}
        shown = run(env, "accounts", "show", "--account-id", account_id, "--json").json
        assert shown["billing_enabled"] is enabled
    assert run(env, "accounts", "billing", "never", "--reason", "a partner", *USER).status == USAGE


def test_account_that_is_not_there(env: dict[str, str]) -> None:
    by_id = ("--account-id", str(uuid.UUID(int=7)))
    for command in (("show", *USER), ("credit", "5", "--reason", "r", *by_id), ("suspend", "--reason", "r", *by_id)):
        answer = run(env, "accounts", *command)
        assert (answer.status, answer.err) == (FAILED, "Account not found\n")


def test_account_of_the_other_world_is_not_there(env: dict[str, str], account_id: str) -> None:
    answer = run(env, "accounts", "credit", "5", "--reason", "r", "--account-id", account_id, "--environment", "test")
    assert answer.status == FAILED


def test_account_must_be_named(env: dict[str, str]) -> None:
    assert run(env, "accounts", "show").status == USAGE
    assert run(env, "accounts", "credit", "0", "--reason", "r", *USER).status == USAGE


async def test_ledger_verify_exits_by_what_it_finds(env: dict[str, str], account_id: str, own_database: Urls) -> None:
    sound = run(env, "ledger", "verify", "--json")
    assert (sound.status, sound.json["ok"], sound.json["problem"], sound.json["accounts"]) == (DONE, True, None, 1)
    async with connected(own_database) as connection:
        await connection.execute("UPDATE accounts SET free = free + 1")
    spoilt = run(env, "ledger", "verify", "--json")
    assert (spoilt.status, spoilt.json["ok"]) == (FAILED, False)
    assert f"account {account_id}, pool free: balance 4, sum of entries 3" in spoilt.json["problem"]


def test_payments_reconcile_without_a_provider_does_nothing(env: dict[str, str]) -> None:
    answer = run(env, "payments", "reconcile", "--json")
    assert (answer.status, answer.json) == (DONE, {"events": 0, "payments": 0, "failed": 0})


def test_payments_reconcile_says_when_the_provider_is_away(env: dict[str, str]) -> None:
    keys = {"secret_key": "sk_test_x", "publishable_key": "pk_test_x", "webhook_secret": "whsec_x"}
    away = {"STRIPE_LIVE": json.dumps(keys), "STRIPE_API_BASE": "http://127.0.0.1:1", "LOG_LEVEL": "ERROR"}
    answer = run({**env, **away}, "payments", "reconcile")
    assert answer.status == FAILED


async def test_config_reseal_says_how_many_and_what_it_cannot_open(env: dict[str, str], own_database: Urls) -> None:
    keys = {name: b64encode(os.urandom(32)).decode() for name in ("old", "new")}
    settings = settings_for(own_database, encryption_keys={"old": keys["old"]})
    stored = StripeKeys(secret_key=SecretStr("sk"), publishable_key="pk", webhook_secret=SecretStr("whsec"))
    await _store(settings, stored)
    lost = run({**env, "ENCRYPTION_KEYS": json.dumps({"new": keys["new"]})}, "config", "reseal")
    assert (lost.status, "has no key old" in lost.err) == (FAILED, True)
    both = {**env, "ENCRYPTION_KEYS": json.dumps({"new": keys["new"], "old": keys["old"]})}
    for resealed in (1, 0):
        assert run(both, "config", "reseal").out == f"Resealed: {resealed}\n"


async def _store(settings: Settings, keys: StripeKeys) -> None:
    db = Database(settings.database_url)
    async with db.transaction() as tx:
        sealed = seal_keys(Sealer(settings.encryption_keys), "live", keys)
        await queries.upsert_sealed(tx, "live", sealed, datetime.now(UTC))
    await db.close()


def test_openapi_needs_no_settings() -> None:
    answer = run({}, "openapi")
    assert answer.status == DONE
    assert "/v1/billing/charges" in answer.json["paths"]


def test_wrong_settings_are_named() -> None:
    answer = run({"MODE": "party"}, "keys", "list")
    assert answer.status == UNUSABLE
    assert {line.split(":")[0] for line in answer.err.splitlines()} == {"MODE", "DATABASE_URL"}
    for variable, named in (("PACKS", '"packs"'), ("METRICS_TOKEN_FILE", "/no/such/file")):
        answer = run({"MODE": "development", variable: "/no/such/file"}, "keys", "list")
        assert answer.status == UNUSABLE
        assert named in answer.err
        assert answer.err.count("\n") == 1


@pytest.mark.parametrize("command", [("serve",), ("worker",), ("migrate",), ("keys", "list"), ("ledger", "verify")])
def test_database_that_is_away_is_one_line(command: tuple[str, ...]) -> None:
    nowhere = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c", "DATABASE_START_WAIT_S": "0"}
    answer = run({"MODE": "development", **nowhere}, *command)
    assert answer.status == UNUSABLE
    assert answer.err.startswith("The database does not answer: ")
    assert answer.err.count("\n") == 1


def test_migrate_makes_the_schema(empty_database: Urls) -> None:
    env = environment(empty_database)
    for command in (("serve",), ("worker",), ("keys", "list")):
        before = run(env, *command)
        assert before.status == UNUSABLE
        assert "ciris-billing migrate" in before.err
    assert run(env, "migrate").status == DONE
    assert run(env, "keys", "list", "--json").json == []
    assert run(env, "migrate", "--revision", "nonsense").status == FAILED


def run_in_terminal(env: dict[str, str], *arguments: str) -> str:
    """Return the output for a person who types the command in a terminal of 100 columns in Tokyo."""
    ours, terminal = os.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            env={**os.environ, **env, "TZ": "Asia/Tokyo", "COLUMNS": "100", "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        seen = bytearray()
        with contextlib.suppress(OSError):  # EIO once the process has ended
            while part := os.read(ours, 65_536):
                seen += part
        process.wait(60)
    finally:
        os.close(ours)
    return seen.decode()


async def test_terminals_get_tables_and_progress_bars(env: dict[str, str], own_database: Urls) -> None:
    hostile = "agent \x1b]0;owned\x07[red]"
    made = run(env, "keys", "create", "--name", hostile, "--permission", "billing:read", "--json").json
    async with connected(own_database) as connection:
        await connection.execute("UPDATE api_keys SET created_at = '2026-11-29 20:05:01.234567+00'")
    listed = run_in_terminal(env, "keys", "list")
    assert [heading in listed for heading in ("Key id", "Name", "Permissions", "Created at")] == [True] * 4
    assert ("2026-11-30 05:05:01 JST" in " ".join(listed.split()), "20:05:01.234567" in listed) == (True, False)
    assert made["key_id"] in listed
    assert "\x1b]0;" not in listed  # a name cannot command the terminal
    assert "[red]" in listed
    one = run_in_terminal(env, "keys", "create", "--name", "second", "--permission", "billing:read")
    assert re.search(r"Api key.* cbk_live_\S{60,}\r?\n", one)  # in one line, to be copied
    assert "Verifying the ledger" in run_in_terminal(env, "ledger", "verify")
    piped = run(env, "ledger", "verify")
    assert ("ok=True" in piped.out, "Verifying" in piped.out + piped.err) == (True, False)
    lines = run(env, "keys", "list").out
    assert "created_at=2026-11-29 20:05:01.234567+00:00" in lines
    assert "\x1b" not in lines


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")


def test_every_command_says_what_it_does() -> None:
    found = dict(commands(get_command(cli)))
    assert {"serve", "worker", "migrate", "keys create", "ledger verify", "demo"} <= set(found)
    assert [path for path, command in found.items() if not command.help] == []
