"""Authentication by key: which requests are admitted, what a request costs, and what a rejection reveals."""

import asyncio
import re
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.auth.api_keys import brute_force, verifier
from app.auth.api_keys.keys import generate_key
from app.auth.caller import Permission
from app.clock import request_time
from app.db import Database
from tests.auth.conftest import MakeKey, Process, StartProcess, until


def with_wrong_secret(text: str) -> str:
    return text[:-43] + "".join(secrets.choice("abcdefgh") for _ in range(43))


def body_less_request_id(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


async def test_a_key_tells_who_calls(process: Process, make_key: MakeKey) -> None:
    key = await make_key({Permission.READ, Permission.WRITE}, environment="test")
    answer = await (await process.client(key.secret_text)).get("/read")
    assert answer.status_code == 200
    assert answer.json() == {
        "environment": "test",
        "actor": ["api_key", key.key_id],
        "permissions": ["billing:read", "billing:write"],
        "user": None,
    }


async def test_no_credentials_is_401_and_says_what_to_send(process: Process) -> None:
    client = await process.client()
    for path, challenge in (("/read", "ApiKey"), ("/own", "ApiKey, Bearer")):
        for headers in ({}, {"X-API-Key": ""}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == challenge
            assert answer.json()["code"] == "unauthorized"
            assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


async def test_a_token_is_no_key(process: Process) -> None:
    answer = await (await process.client()).get("/read", headers={"Authorization": "Bearer a.b.c"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_missing_permission_is_403_and_named(process: Process, make_key: MakeKey) -> None:
    key = await make_key({Permission.READ, Permission.CREDIT})
    client = await process.client(key.secret_text)
    answer = await client.get("/write")
    assert answer.status_code == 403
    assert body_less_request_id(answer) == {
        "detail": "Missing required permission: billing:write",
        "code": "missing_permission",
    }
    assert (await client.get("/read")).status_code == 200


async def test_wrong_unknown_revoked_expired_and_malformed_keys_look_the_same(
    process: Process, make_key: MakeKey, db: Database, now: datetime
) -> None:
    good = await make_key()
    expired = await make_key(now=now - timedelta(days=2), expires_at=now - timedelta(days=1))
    texts = [
        with_wrong_secret(good.secret_text),
        generate_key("live").secret_text,
        expired.secret_text,
        good.secret_text.replace("cbk_live", "cbk_test"),
        "not a key",
    ]
    answers = [await (await process.client(text)).get("/read") for text in texts]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"ApiKey"}
    assert [body_less_request_id(a) for a in answers] == [{"detail": "Invalid API key", "code": "invalid_api_key"}] * 5


async def test_only_a_wrong_secret_of_a_working_key_costs_argon2(
    process: Process, make_key: MakeKey, now: datetime
) -> None:
    good = await make_key()
    expired = await make_key(now=now - timedelta(days=2), expires_at=now - timedelta(days=1))
    for text in (
        generate_key("live").secret_text,
        expired.secret_text,
        good.secret_text.replace("cbk_live", "cbk_test"),
        good.secret_text + "0",
    ):
        assert await process.status(text) == 401
    assert process.argon2.verifications == 0
    assert await process.status(with_wrong_secret(good.secret_text)) == 401
    assert process.argon2.verifications == 1


async def test_argon2_runs_once_per_key_and_process(
    process: Process, start_process: StartProcess, make_key: MakeKey
) -> None:
    key, other = await make_key(), await make_key()
    for _ in range(5):
        assert await process.status(key.secret_text) == 200
        assert await process.status(other.secret_text) == 200
    assert process.argon2.verifications == 2
    another = await start_process()
    assert await another.status(key.secret_text) == 200
    assert another.argon2.verifications == 1


async def test_first_uses_at_once_share_one_verification(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    client = await process.client(key.secret_text)
    answers = await asyncio.gather(*(client.get("/read") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert process.argon2.verifications == 1


async def test_a_caller_that_gives_up_does_not_end_the_verification_for_others(
    process: Process, make_key: MakeKey
) -> None:
    key = await make_key()
    client = await process.client(key.secret_text)
    first, second = (asyncio.create_task(client.get("/read")) for _ in range(2))
    await until(lambda: process.argon2.verifications > 0)
    first.cancel()
    assert (await second).status_code == 200
    assert process.argon2.verifications == 1


async def test_a_known_key_costs_no_database(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    client = await process.client(key.secret_text)
    await client.get("/read")
    before = process.db.uses
    for _ in range(50):
        assert (await client.get("/read")).status_code == 200
    assert process.db.uses == before
    assert await process.status(generate_key("live").secret_text) == 401
    assert process.db.uses == before + 1


async def test_a_wrong_secret_is_refused_beside_a_cached_right_one(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    assert await process.status(key.secret_text) == 200
    assert await process.status(with_wrong_secret(key.secret_text)) == 401
    assert await process.status(key.secret_text) == 200
    last = "1" if key.secret_text[-1] != "1" else "2"
    assert await process.status(key.secret_text[:-1] + last) == 401


async def test_the_memory_of_verified_keys_keeps_the_recently_used(
    process: Process, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "MAX_CACHED_KEYS", 2)
    first, second, third = [await make_key() for _ in range(3)]
    verifications = []
    for key in (first, second, first, third, first, third, second):
        assert await process.status(key.secret_text) == 200
        verifications.append(process.argon2.verifications)
    assert verifications == [1, 2, 2, 3, 3, 3, 4]


async def test_guessing_is_slowed_per_key_and_address_and_locks_nobody_out(process: Process, make_key: MakeKey) -> None:
    key, other = await make_key(), await make_key()
    attacker = await process.client(address="203.0.113.66")

    async def attempt(text: str) -> httpx.Response:
        return await attacker.get("/read", headers={"X-API-Key": text})

    for _ in range(brute_force.FREE_ATTEMPTS):
        assert (await attempt(with_wrong_secret(key.secret_text))).status_code == 401
    before = process.argon2.verifications
    for _ in range(20):
        slowed = await attempt(with_wrong_secret(key.secret_text))
        assert (slowed.status_code, slowed.json()["code"]) == (429, "too_many_attempts")
        assert int(slowed.headers["Retry-After"]) >= 1
    assert process.argon2.verifications == before
    assert (await attempt(other.secret_text)).status_code == 200  # another key from there
    assert await process.status(key.secret_text) == 200  # the key from elsewhere, for the first time
    assert (await attempt(key.secret_text)).status_code == 200  # and, verified once, from there too


async def test_guesses_sent_at_once_do_not_slip_through_together(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    attacker = await process.client(address="203.0.113.67")
    answers = await asyncio.gather(
        *(attacker.get("/read", headers={"X-API-Key": with_wrong_secret(key.secret_text)}) for _ in range(30))
    )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) == process.argon2.verifications == brute_force.FREE_ATTEMPTS
    assert statuses.count(429) == 30 - brute_force.FREE_ATTEMPTS


async def test_ipv6_guesses_are_counted_by_site(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    statuses = []
    for n in range(brute_force.FREE_ATTEMPTS + 1):
        client = await process.client(with_wrong_secret(key.secret_text), address=f"2001:db8:7:7::{n}")
        statuses.append((await client.get("/read")).status_code)
    assert statuses == [401] * brute_force.FREE_ATTEMPTS + [429]


async def test_the_allow_list_refuses_other_addresses_once_the_secret_is_right(
    process: Process, make_key: MakeKey
) -> None:
    key = await make_key(ip_allow_list=["203.0.113.0/24", ip_network("2001:db8::/48")])
    for address, status in (("203.0.113.7", 200), ("2001:db8::5", 200), ("198.51.100.7", 403)):
        client = await process.client(key.secret_text, address=address)
        assert (await client.get("/read")).status_code == status
    outside = await process.client(address="198.51.100.7")
    wrong = await outside.get("/read", headers={"X-API-Key": with_wrong_secret(key.secret_text)})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    right = await outside.get("/read", headers={"X-API-Key": key.secret_text})
    assert right.json()["code"] == "address_not_allowed"


async def test_forwarded_addresses_count_from_trusted_proxies_only(
    start_process: StartProcess, make_key: MakeKey
) -> None:
    process = await start_process(trusted_proxies=[ip_network("10.0.0.0/8")])
    key = await make_key(ip_allow_list=["203.0.113.0/24"])
    behind_proxy = await process.client(key.secret_text, address="10.1.1.1")
    direct = await process.client(key.secret_text, address="198.51.100.9")
    for client, forwarded, status in (
        (behind_proxy, "203.0.113.7", 200),
        (behind_proxy, "198.51.100.7", 403),
        (behind_proxy, "203.0.113.7, 198.51.100.7", 403),  # the client forged the left entry
        (direct, "203.0.113.7", 403),
    ):
        assert (await client.get("/read", headers={"X-Forwarded-For": forwarded})).status_code == status


async def test_each_key_has_its_own_limit(start_process: StartProcess, make_key: MakeKey) -> None:
    process = await start_process(rate_limit_per_key=3)
    by_default, own = await make_key(), await make_key(rate_limit_per_minute=5)
    for key, limit in ((by_default, 3), (own, 5)):
        client = await process.client(key.secret_text)
        answers = [await client.get("/read") for _ in range(limit + 2)]
        assert [answer.status_code for answer in answers] == [200] * limit + [429] * 2
        assert answers[-1].json()["code"] == "rate_limited"
        assert re.fullmatch("[1-9][0-9]*", answers[-1].headers["Retry-After"])


async def test_an_address_has_a_limit_whatever_it_sends(start_process: StartProcess, make_key: MakeKey) -> None:
    process = await start_process(rate_limit_per_address=4)
    key = await make_key()
    here, elsewhere = await process.client(), await process.client(key.secret_text, address="198.51.100.2")
    headers = [{}, {"X-API-Key": "garbage"}, {"Authorization": "Bearer x"}, {"X-API-Key": key.secret_text}]
    statuses = [(await here.get("/own", headers=each)).status_code for each in [*headers, {}, headers[-1]]]
    assert statuses == [401, 401, 401, 200, 429, 429]
    assert (await elsewhere.get("/own")).status_code == 200


async def test_a_forged_forwarding_header_does_not_dodge_the_address_limit(start_process: StartProcess) -> None:
    process = await start_process(rate_limit_per_address=2)
    client = await process.client()
    answers = [await client.get("/read", headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]


async def test_log_lines_carry_the_key_id_and_no_secret(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    wrong = with_wrong_secret(key.secret_text)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        assert await process.status(key.secret_text) == 200
        assert await process.status(wrong) == 401
        assert await process.status(f"junk-{wrong[-20:]}") == 401
    # "/read": servers of other tests in this process may be asked whether they are ready
    read = [line for line in lines if line["event"] == "request" and line["route"] == "/read"]
    assert [line.get("key_id") for line in read] == [key.key_id, None, None]
    refusals = [(line["key_id"], line["reason"]) for line in lines if line["event"] == "api_key_refused"]
    assert refusals == [(key.key_id, "wrong secret"), (None, "malformed")]
    for secret in (key.secret_text[-43:], wrong[-20:]):
        assert secret not in repr(lines)


@hypothesis_settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=200)
    | st.from_regex(rb"cbk_(live|test)_[0-9a-z]{14,18}_[0-9A-Za-z_-]{40,46}", fullmatch=True)
    | st.builds(lambda text, at: text[:at] + b"\xff" + text[at:], st.just(b"cbk_live_" + b"a" * 60), st.integers(0, 60))
)
async def test_any_other_header_value_is_401(process: Process, value: bytes) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/read",
        "raw_path": b"/read",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"billing"), (b"x-api-key", value)],
        "client": ("198.51.100.1", 5),
        "server": ("billing", 80),
    }
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await process.app(scope, receive, send)  # type: ignore[arg-type]  # plain dicts are ASGI messages
    assert sent[0]["status"] == 401


async def test_a_megabyte_of_key_is_401_at_once(process: Process) -> None:
    assert await process.status("cbk_live_" + "a" * 1_000_000) == 401


async def test_time_decides_on_every_request(process: Process, make_key: MakeKey) -> None:
    now = datetime.now(UTC)
    key = await make_key(now=now, expires_at=now + timedelta(hours=1))
    clock = now
    process.app.dependency_overrides[request_time] = lambda: clock
    assert await process.status(key.secret_text) == 200
    clock = now + timedelta(hours=1) - timedelta(microseconds=1)
    assert await process.status(key.secret_text) == 200
    clock = now + timedelta(hours=1)
    assert await process.status(key.secret_text) == 401
