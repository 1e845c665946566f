"""Argon2: at the cost that OWASP asks for, off the event loop, and a few at a time."""

import asyncio
import json
import threading
import time

import sqlalchemy

from app.auth.api_keys import brute_force
from app.auth.api_keys.hashing import LANES, MAX_WAITING, MEMORY_KIB, PASSES, THREADS, Argon2
from app.db import Database
from app.errors import Busy
from app.observability.metrics import REGISTRY
from tests.auth.conftest import MakeKey, Process
from tests.auth.test_authentication import with_wrong_secret


async def test_the_hash_is_argon2id_at_owasp_cost_and_of_the_whole_key(db: Database, make_key: MakeKey) -> None:
    key = await make_key()
    async with db.read() as session:
        query = sqlalchemy.text("SELECT to_jsonb(api_keys)::text FROM api_keys WHERE key_id = :key_id")
        row = (await session.execute(query, {"key_id": key.key_id})).scalar_one()
    stored = json.loads(row)
    assert stored["secret_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (MEMORY_KIB, PASSES, LANES) == (19_456, 2, 1)
    assert key.secret_text[-43:] not in row
    argon2 = Argon2()
    assert await argon2.verify(stored["secret_hash"], key.secret_text)
    assert not await argon2.verify(stored["secret_hash"], key.secret_text[-43:])


async def test_argon2_leaves_the_event_loop_free(process: Process, make_key: MakeKey) -> None:
    """While 16 keys are verified the loop turns all the time. Were it blocked, it would turn about once a key."""
    keys = [await make_key() for _ in range(16)]
    clients = [await process.client(key.secret_text) for key in keys]
    lags_s: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            lags_s.append(time.perf_counter() - before - 0.002)

    watcher = asyncio.create_task(watch())
    started = time.perf_counter()
    answers = await asyncio.gather(*(client.get("/read") for client in clients))
    took_s = time.perf_counter() - started
    watcher.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert process.argon2.verifications == 16
    assert len(lags_s) > 2 * 16
    assert sorted(lags_s)[len(lags_s) // 2] < took_s / 16


async def test_only_a_few_run_at_a_time_and_only_so_many_wait(make_key: MakeKey) -> None:
    argon2 = Argon2()
    encoded = await argon2.hash("text")
    counted = REGISTRY.get_sample_value("billing_argon2_refused_total") or 0
    started = time.perf_counter()
    outcomes = await asyncio.gather(*(argon2.verify(encoded, f"wrong {n}") for n in range(200)), return_exceptions=True)
    took_s = time.perf_counter() - started
    refused = [outcome for outcome in outcomes if isinstance(outcome, Busy)]
    assert outcomes.count(False) == THREADS + MAX_WAITING
    assert len(refused) == 200 - THREADS - MAX_WAITING
    assert REGISTRY.get_sample_value("billing_argon2_refused_total") == counted + len(refused)
    assert REGISTRY.get_sample_value("billing_argon2_unfinished") == 0
    assert all(error.status == 503 and int(error.headers["Retry-After"]) >= 1 for error in refused)
    assert took_s < 10
    assert await argon2.verify(encoded, "text")  # the refused ones left nothing behind


async def test_waiting_verifications_of_callers_that_gave_up_are_not_run() -> None:
    argon2 = Argon2()
    encoded = await argon2.hash("text")
    waiting = [asyncio.create_task(argon2.verify(encoded, str(n))) for n in range(THREADS + MAX_WAITING)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await asyncio.wait_for(argon2.verify(encoded, "text"), 1)


async def test_too_many_first_uses_are_503_and_known_keys_go_on(process: Process, make_key: MakeKey) -> None:
    known = await make_key()
    assert await process.status(known.secret_text) == 200
    keys = [await make_key() for _ in range(THREADS + MAX_WAITING + 6)]
    wrong = [await process.client(with_wrong_secret(key.secret_text)) for key in keys]
    flood = [asyncio.create_task(client.get("/read")) for client in wrong]
    statuses = {await process.status(known.secret_text) for _ in range(20)}
    answers = await asyncio.gather(*flood)
    assert statuses == {200}
    assert {answer.status_code for answer in answers} == {401, 503}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)


async def test_a_refusal_for_overload_is_no_failed_attempt(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    client = await process.client(key.secret_text)
    release = threading.Event()
    flood = [asyncio.create_task(process.argon2._run(release.wait)) for _ in range(THREADS + MAX_WAITING)]
    await asyncio.sleep(0)
    answers = [await client.get("/read") for _ in range(brute_force.FREE_ATTEMPTS + 3)]
    release.set()
    await asyncio.gather(*flood)
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "busy")}
    assert (await client.get("/read")).status_code == 200
