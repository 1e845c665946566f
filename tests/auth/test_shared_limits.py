"""Limits that processes share through a real Redis, and what they do when it is slow, stalled or away."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import redis
from pydantic import SecretStr

from app.auth.api_keys.brute_force import FREE_ATTEMPTS
from app.auth.caller import Permission
from app.auth.rate_limits import redis_buckets
from app.auth.rate_limits.redis_buckets import EXCHANGE_EVERY_S, KEY_PREFIX, UNREPORTED_SHARE, SharedTokenBuckets
from app.auth.rate_limits.token_buckets import WINDOW_S
from app.db import Database
from app.observability.metrics import REGISTRY
from tests.auth.conftest import MakeKey, StartProcess, until
from tests.auth.test_authentication import with_wrong_secret
from tests.conftest import make_key as make_key_text
from tests.databases import Urls
from tests.redis_server import RedisServer, SlowRelay, running_redis
from tests.servers import running_server

Start = Callable[..., SharedTokenBuckets]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """Running, and empty."""
    if shared_redis.process is None:
        shared_redis.start()
    stored(shared_redis).flushall()
    return shared_redis


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start buckets as another process would have them: separate, on the same Redis."""
    async with AsyncExitStack() as stack:

        def start(url: str) -> SharedTokenBuckets:
            buckets = SharedTokenBuckets(SecretStr(url))
            buckets.start()
            stack.push_async_callback(buckets.stop)
            return buckets

        yield start


def stored(server: RedisServer) -> "redis.Redis":
    return redis.Redis.from_url(server.url, decode_responses=True)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def take(buckets: SharedTokenBuckets, limit: int, name: str = "key") -> int:
    return buckets.take(name, limit, now_s())


async def test_unreported_use_is_bounded_in_number_and_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_buckets, "MAX_BUCKETS", 2)
    buckets = SharedTokenBuckets(SecretStr("redis://127.0.0.1:1"))
    for name in ("first", "second", "third"):
        take(buckets, 1000, name)
    assert list(buckets._unreported) == ["second", "third"]
    await buckets.stop()


async def take_all(buckets: SharedTokenBuckets, limit: int, name: str = "key") -> int:
    """Take one after the other until there is none; how many there were."""
    for taken in range(2 * limit):
        if take(buckets, limit, name):
            return taken
        await asyncio.sleep(0.001)
    raise AssertionError("no limit at all")


async def reports_sent(buckets: SharedTokenBuckets) -> None:
    """Wait until all due reports were sent."""
    await until(lambda: not buckets._to_report and not buckets._due.is_set())
    await asyncio.sleep(2 * EXCHANGE_EVERY_S)


def is_shared() -> bool:
    return REGISTRY.get_sample_value("billing_rate_limits_shared") == 1


async def test_what_one_took_the_others_do_not_have(redis_server: RedisServer, start: Start) -> None:
    one, other = start(redis_server.url), start(redis_server.url)
    assert await take_all(one, 30) == 30
    await reports_sent(one)
    assert take(other, 30) == 0  # it has not asked yet
    await reports_sent(other)
    assert take(other, 30) in (2, 3, 4)  # the excess is owed, and the caller has to wait


async def test_buckets_do_not_share(redis_server: RedisServer, start: Start) -> None:
    one, other = start(redis_server.url), start(redis_server.url)
    assert await take_all(one, 5, "API key a") == 5
    await reports_sent(one)
    assert await take_all(other, 5, "API key b") == 5


async def test_three_at_once_admit_little_more_than_one_would(redis_server: RedisServer, start: Start) -> None:
    """The bound that the class states. Each takes one a millisecond at most."""
    limit, several = 300, [start(redis_server.url) for _ in range(3)]
    began_s = now_s()
    taken = await asyncio.gather(*(take_all(buckets, limit) for buckets in several))
    refilled = (now_s() - began_s) / WINDOW_S * limit + 1
    late = max(40, round((EXCHANGE_EVERY_S + 0.05) / 0.001))
    assert limit <= sum(taken) <= limit + refilled + 3 * (late + limit / UNREPORTED_SHARE)


async def test_what_was_admitted_too_much_is_missing_afterwards(redis_server: RedisServer, start: Start) -> None:
    """Both take a whole bucket before either can know: the next token is there when a minute's refill is paid back."""
    one, other = start(redis_server.url), start(redis_server.url)
    for buckets in (one, other):
        assert [take(buckets, 60) for _ in range(60)] == [0] * 60
    await reports_sent(one)
    await reports_sent(other)
    await until(lambda: int(stored(redis_server).pttl(KEY_PREFIX + "key")) > 100_000)
    third = start(redis_server.url)
    assert take(third, 60) == 0
    await reports_sent(third)
    assert 55 <= take(third, 60) <= 62


async def test_who_uses_little_is_not_told_of(redis_server: RedisServer, start: Start) -> None:
    """An account is reported to Redis once it has used a 64th of its limit; Redis forgets it once it has that again."""
    buckets, at_s = start(redis_server.url), now_s()  # nothing is refilled between the first and the last
    names = [f"account {n}" for n in range(200)] + ["account 0"] * 98
    assert [buckets.take(name, 6400, at_s) for name in names] == [0] * len(names)
    await reports_sent(buckets)
    assert stored(redis_server).keys("*") == []
    assert buckets.take("account 0", 6400, at_s) == 0
    await until(lambda: 0 < int(stored(redis_server).pttl(KEY_PREFIX + "account 0")) <= 100 * 60_000 // 6400 + 10)
    assert stored(redis_server).keys("*") in ([KEY_PREFIX + "account 0"], [])  # which it has again within a second


async def test_use_of_long_ago_is_not_told(redis_server: RedisServer, start: Start) -> None:
    buckets = start(redis_server.url)
    began_s = now_s()
    for minute in range(300):
        assert buckets.take("account", 6400, began_s + 60.0 * minute) == 0
    await reports_sent(buckets)
    assert stored(redis_server).keys("*") == []


async def test_many_buckets_are_told_in_turn(redis_server: RedisServer, start: Start) -> None:
    buckets = start(redis_server.url)
    for n in range(1300):
        assert take(buckets, 10, f"address {n}") == 0
    await until(lambda: stored(redis_server).dbsize() == 1300)


async def test_without_redis_each_has_the_limit_for_itself_and_nobody_waits(
    redis_server: RedisServer, start: Start
) -> None:
    one, other = start(redis_server.url), start(redis_server.url)
    assert take(one, 30) == 0
    await reports_sent(one)
    redis_server.stop()
    for buckets, left in ((one, 29), (other, 30)):  # without a pause: all reports are due at once, and fail
        assert [take(buckets, 30) for _ in range(left)] == [0] * left
        assert take(buckets, 30) > 0
    await until(lambda: not is_shared())
    redis_server.start()
    await until(lambda: is_shared() and not one._to_report and not other._to_report, timeout_s=8)
    third = start(redis_server.url)
    assert take(third, 30) == 0
    await reports_sent(third)
    assert take(third, 30) > 0  # it has received the earlier use


async def test_a_stalled_redis_that_hears_everything_late_counts_it_once(
    redis_server: RedisServer, start: Start
) -> None:
    buckets = start(redis_server.url)
    assert take(buckets, 60) == 0
    await reports_sent(buckets)
    redis_server.pause()
    try:
        for _ in range(9):
            began_s = time.perf_counter()
            assert take(buckets, 60) == 0
            assert time.perf_counter() - began_s < 0.05
            await asyncio.sleep(0.1)
        await until(lambda: not is_shared())
    finally:
        redis_server.resume()
    await until(is_shared, timeout_s=8)
    await reports_sent(buckets)
    # Ten tokens of a second each were taken, within a second or so.
    assert 5_000 <= int(stored(redis_server).pttl(KEY_PREFIX + "key")) <= 10_500


async def test_a_slow_redis_neither_delays_nor_uses_up(redis_server: RedisServer, start: Start) -> None:
    relay = SlowRelay(redis_server.port)
    await relay.start()
    try:
        buckets = start(relay.url)
        relay.delay_s = 0.1
        for _ in range(20):
            assert take(buckets, 60) == 0
            await asyncio.sleep(0.02)
        await reports_sent(buckets)
        assert 18_000 <= int(stored(redis_server).pttl(KEY_PREFIX + "key")) <= 20_500
    finally:
        await relay.stop()


async def test_a_server_that_refuses_us_is_survived(redis_server: RedisServer, start: Start) -> None:
    wrong = start(redis_server.url.replace("redis://", "redis://nobody:wrong@"))
    assert await take_all(wrong, 5) == 5
    await until(lambda: not is_shared())
    assert wrong._task is not None
    assert not wrong._task.done()


async def test_key_and_address_limits_hold_across_processes(
    redis_server: RedisServer, start_process: StartProcess, make_key: MakeKey
) -> None:
    limits = {"redis_url": SecretStr(redis_server.url), "rate_limit_per_address": 20}
    one, other = await start_process(**limits), await start_process(**limits)
    key, unlimited = await make_key(rate_limit_per_minute=5), await make_key()
    for text, address, limit in ((key.secret_text, "198.51.100.1", 5), (unlimited.secret_text, "198.51.100.2", 20)):
        first, second = await one.client(text, address=address), await other.client(text, address=address)
        assert [(await first.get("/read")).status_code for _ in range(limit)] == [200] * limit
        await asyncio.sleep(4 * EXCHANGE_EVERY_S)
        assert (await second.get("/read")).status_code == 200  # no request waits for Redis
        await asyncio.sleep(4 * EXCHANGE_EVERY_S)
        refused = await second.get("/read")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert re.fullmatch("[1-9][0-9]*", refused.headers["Retry-After"])


async def test_more_processes_let_nobody_guess_more(
    redis_server: RedisServer, start_process: StartProcess, make_key: MakeKey
) -> None:
    processes = [await start_process(redis_url=SecretStr(redis_server.url)) for _ in range(4)]
    key = await make_key()
    codes: list[list[int]] = []
    for process in processes:
        attacker = await process.client(with_wrong_secret(key.secret_text), address="203.0.113.68")
        codes.append([])
        for _ in range(FREE_ATTEMPTS):
            codes[-1].append((await attacker.get("/read")).status_code)
            await asyncio.sleep(4 * EXCHANGE_EVERY_S)
    assert codes[:2] == [[401] * FREE_ATTEMPTS] * 2
    assert codes[2:] == [[401] + [429] * (FREE_ATTEMPTS - 1)] * 2  # known after one reported attempt
    assert await processes[3].status(key.secret_text) == 200  # from elsewhere


async def test_an_accounts_limit_holds_over_two_servers(
    redis_server: RedisServer, database: Urls, db: Database
) -> None:
    """Two real processes, and an agent that posts to both in turn: checks, charges, tools and purchases count as one.

    While Redis is stopped, each has the limit for itself, and answers as fast.
    """
    key = await make_key_text(db, "live", Permission.READ, Permission.WRITE)
    env = {"REDIS_URL": redis_server.url, "RATE_LIMIT_PER_ACCOUNT": "40"}
    user: dict[str, object] = {"oauth_provider": "oauth:google", "external_id": f"shared-{time.time_ns()}@example.com"}
    posts: list[tuple[str, dict[str, object]]] = [
        ("/v1/billing/credits/check", user),
        ("/v1/billing/charges", {**user, "amount_minor": 100, "idempotency_key": "one"}),
        ("/v1/tools/charge", {**user, "product_type": "web_search", "idempotency_key": "one"}),
    ]

    async def admitted(clients: list[httpx.AsyncClient], about: dict[str, object], tries: int) -> list[httpx.Response]:
        answers = []
        for n in range(tries):
            path, body = posts[n % len(posts)]
            answers.append(await clients[n % len(clients)].post(path, json={**body, **about}))
        assert {answer.status_code for answer in answers} <= {200, 201, 409, 429}
        return answers

    with running_server(database, env=env) as one, running_server(database, env=env) as other:
        async with (
            httpx.AsyncClient(base_url=one.url, headers={"X-API-Key": key}) as first,
            httpx.AsyncClient(base_url=other.url, headers={"X-API-Key": key}) as second,
        ):
            answers = await admitted([first, second], {}, 70)
            passed = [answer for answer in answers if answer.status_code != 429]
            assert 40 <= len(passed) <= 60  # 40, a refill of some, and what one did not know of the other
            refused = answers[-1]
            assert refused.json()["detail"] == "Too many requests for this account"
            assert int(refused.headers["Retry-After"]) >= 1
            unhindered = await admitted([first, second], {"external_id": f"{user['external_id']}.other"}, 6)
            assert {answer.status_code for answer in unhindered} <= {200, 201, 409}

            redis_server.stop()
            somebody: dict[str, object] = {"external_id": f"{user['external_id']}.alone"}
            answers = await admitted([first, second], somebody, 100)
            assert 80 <= sum(answer.status_code != 429 for answer in answers) <= 90
            assert max(answer.elapsed.total_seconds() for answer in answers) < 1
        for server in (one, other):
            assert "Traceback" not in server.printed()
