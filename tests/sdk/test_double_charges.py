"""Probable double charges through both clients, by keys that flag and refuse them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from app.auth.api_keys.service import create_key
from app.auth.caller import DoubleCharges, Permission
from app.db import Database
from ciris_billing import AsyncBillingClient, BillingClient, NewCharge, User
from tests.databases import Urls
from tests.sdk.conftest import InThreads, Service

PURPOSE: dict[str, Any] = {"description": "An answer", "metadata": {"request_id": "r1"}}
OpenClient = Callable[[DoubleCharges], Awaitable[Any]]


@pytest.fixture(params=["blocking", "awaited"])
async def open_client(request: pytest.FixtureRequest, service: Service, database: Urls) -> AsyncIterator[OpenClient]:
    """Open each client in turn, with a key of a policy."""
    async with AsyncExitStack() as stack:

        async def open_client(policy: DoubleCharges) -> Any:
            db = Database(SecretStr(database.service), pool_size=1)
            async with db.transaction() as tx:
                key = await create_key(
                    tx,
                    environment="live",
                    name="tests",
                    permissions={Permission.READ, Permission.WRITE},
                    now=datetime.now(UTC),
                    double_charges=policy,
                )
            await db.close()
            if request.param == "blocking":
                return InThreads(stack.enter_context(BillingClient(service.url, key.secret_text)))
            return await stack.enter_async_context(AsyncBillingClient(service.url, key.secret_text))

        yield open_client


@pytest.mark.parametrize(("policy", "is_refused"), [("flag", False), ("refuse", True)])
async def test_charge_names_the_first_one_of_its_purpose(
    open_client: OpenClient, who: User, policy: DoubleCharges, is_refused: bool
) -> None:
    billing = await open_client(policy)
    first = await billing.charge(who, idempotency_key="10:01", **PURPOSE)
    assert (first.probable_double_of, first.is_refused_double) == (None, False)
    again = await billing.charge(who, idempotency_key="10:01", **PURPOSE)
    assert (again.replayed, again.probable_double_of, again.is_refused_double) == (True, None, False)
    double = await billing.charge(who, idempotency_key="10:02", **PURPOSE)
    assert (double.probable_double_of, double.replayed) == (first.charge_id, is_refused)
    assert double.is_refused_double is is_refused
    assert (double.charge_id == first.charge_id) is is_refused
    replayed, in_batch = await billing.charge_batch(
        [NewCharge(user=who, idempotency_key=key, **PURPOSE) for key in ("10:01", "10:03")]
    )
    assert (replayed.charge.replayed, replayed.charge.probable_double_of) == (True, None)
    assert (in_batch.charge.probable_double_of, in_batch.is_charged) == (first.charge_id, True)
    assert in_batch.charge.is_refused_double is is_refused
