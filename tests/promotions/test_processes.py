"""200 callers of two processes at once: each grant is given once."""

import asyncio
from collections import Counter
from typing import Any

import httpx

from tests.promotions.conftest import DAILY, REFERRAL, SIGNUP, Promotion, new_user
from tests.servers import running_server

CALLERS = 200


async def call(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
    """Return `granted`, or the reason. A busy server is asked again, as its clients do."""
    while True:
        answer = await client.post(path, json=body)
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            return "granted" if answer.json()["granted"] else str(answer.json()["reason"])
        await asyncio.sleep(float(answer.headers["Retry-After"]))


async def test_parallel_callers_of_several_processes_get_each_grant_once(promotion: Promotion) -> None:
    user, inviter, payer = new_user(), new_user(), new_user()
    await promotion.post(DAILY, user_id=payer)
    await promotion.pay(payer)
    requests = (
        (SIGNUP, {"user_id": user}, "already_granted"),
        (DAILY, {"user_id": user}, "already_granted_today"),
        (REFERRAL, {"inviter_user_id": inviter, "invitee_user_id": payer}, "already_granted"),
    )
    key = promotion.service.headers["X-API-Key"]
    limits = httpx.Limits(max_connections=CALLERS)
    with running_server(promotion.shop.urls) as first, running_server(promotion.shop.urls) as second:
        async with (
            httpx.AsyncClient(base_url=first.url, headers={"X-API-Key": key}, timeout=60, limits=limits) as one,
            httpx.AsyncClient(base_url=second.url, headers={"X-API-Key": key}, timeout=60, limits=limits) as two,
        ):
            for path, body, reason in requests:
                calls = (call((one, two)[number % 2], path, body) for number in range(CALLERS))
                found = Counter(await asyncio.gather(*calls))
                # A 503 may follow the commit. The caller's repeat then answers that the grant exists.
                assert found["granted"] <= 1
                assert found["granted"] + found[reason] == CALLERS, found
    assert await promotion.grants(user) == [("daily", 50), ("signup", 500)]
    assert await promotion.grants(payer) == [("daily", 50), ("referral", 300)]
    assert await promotion.grants(inviter) == [("referral", 200)]
