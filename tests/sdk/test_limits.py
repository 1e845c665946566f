"""Limits through both clients: set, read, refuse, remove."""

import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from ciris_billing import (
    ApprovalRequired,
    AsyncBillingClient,
    BillingClient,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    User,
)
from tests.conftest import make_key
from tests.databases import Urls
from tests.sdk.conftest import InThreads, Service


@pytest.fixture(params=["blocking", "awaited"])
async def operator(request: pytest.FixtureRequest, service: Service, database: Urls) -> AsyncIterator[Any]:
    """Each client in turn, with a key that may set limits."""
    db = Database(SecretStr(database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    if request.param == "blocking":
        with BillingClient(service.url, key) as client:
            yield InThreads(client)
    else:
        async with AsyncBillingClient(service.url, key) as awaited:
            yield awaited


async def test_a_limit_from_its_setting_to_its_removal(operator: Any) -> None:
    user = User("oauth:google", f"{uuid.uuid4()}@example.com")
    limit = await operator.set_limit(user, window="day", unit="credits", amount=2, scope="agent:scout")
    assert (limit.scope, limit.scope_value, limit.amount, limit.spent) == ("agent", "scout", Decimal(2), Decimal(0))
    metadata = {"agent_id": "scout"}
    await operator.charge(user, amount_minor=100, interaction_id="1", metadata=metadata)
    with pytest.raises(LimitExceeded) as refused:
        await operator.charge(user, amount_minor=200, interaction_id="2", metadata=metadata)
    error = refused.value
    assert (error.limit["id"], error.spent, error.required) == (limit.id, Decimal(1), Decimal(2))
    assert (error.max_affordable_minor, error.wait_until) == (100, limit.resets_at)
    changed = await operator.set_limit(user, window="day", unit="credits", amount="5", scope="agent:scout")
    assert [changed] == await operator.limits(user)
    assert (changed.id, changed.spent) == (limit.id, Decimal(1))
    assert (await operator.remove_limit(limit.id)).id == limit.id
    with pytest.raises(NotFound):
        await operator.remove_limit(limit.id)


async def test_a_request_waits_for_its_approval(operator: Any) -> None:
    user = User("oauth:google", f"{uuid.uuid4()}@example.com")
    await operator.set_limit(user, window="day", unit="credits", amount=0, action="ask")
    with pytest.raises(ApprovalRequired) as refused:
        await operator.charge(user, amount_minor=100, interaction_id="1")
    approval = await operator.get_approval(str(refused.value.approval_id))
    assert (approval.status, approval.unit, approval.amount) == ("pending", "credits", Decimal(1))
    with pytest.raises(NotFound):
        await operator.get_approval("approval_unknown")


async def test_a_key_that_spends_sets_no_limit(billing: Any) -> None:
    user = User("oauth:google", f"{uuid.uuid4()}@example.com")
    with pytest.raises(PermissionDenied):
        await billing.set_limit(user, window="month", unit="money", amount=Decimal("2.50"))
    assert await billing.limits(user) == []
