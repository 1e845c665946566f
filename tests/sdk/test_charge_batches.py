"""`charge_batch` and `find_charge` against the service, and against answers that are none."""

import uuid
from typing import Any

import pytest

from ciris_billing import (
    BillingClient,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidReply,
    InvalidRequest,
    NewCharge,
    SmallerAmount,
    User,
)
from ciris_billing.charges import outcomes_in
from tests.sdk.conftest import Service


def new_user() -> User:
    return User("oauth:google", f"{uuid.uuid4()}@example.com")


async def test_outcomes_are_charges_and_errors(billing: Any) -> None:
    user, other = new_user(), new_user()
    charges = [
        NewCharge(user=user, interaction_id="1", description="An answer", metadata={"agent_id": "datum"}),
        NewCharge(user=user, interaction_id="1", description="An answer"),
        NewCharge(user=user, interaction_id="1", amount_minor=200),
        NewCharge(user=user, idempotency_key="mine", amount_minor=500),
        NewCharge(user=other, interaction_id="1"),
        NewCharge(user=other, interaction_id="2", currency="dollars"),
    ]
    assert (await billing.check_credit(user)).free_uses_remaining == 3
    first, again, reused, dear, theirs, wrong = await billing.charge_batch(charges)
    assert [outcome.is_charged for outcome in (first, again, reused, dear, theirs, wrong)] == [
        *(True, True, False, False, True, False)
    ]
    assert (first.charge.replayed, again.charge.replayed) == (False, True)
    assert first.charge.charge_id == again.charge.charge_id != theirs.charge.charge_id
    assert (first.idempotency_key, dear.idempotency_key) == ("charge:1", "mine")
    assert isinstance(reused.error, IdempotencyKeyReused)
    assert isinstance(dear.error, InsufficientCredits)
    assert dear.error.remedies[0] == SmallerAmount(type="smaller_amount", amount_minor=200)
    assert dear.error.request_id
    assert isinstance(wrong.error, InvalidRequest)
    assert "currency" in str(wrong.error)
    assert (await billing.check_credit(user)).free_uses_remaining == 2  # the batch drops the cached check
    assert await billing.charge_batch([]) == []
    assert await billing.find_charge(user, interaction_id="1") == first.charge
    assert await billing.find_charge(user, idempotency_key="mine") is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": new_user(), "user_id": "ann", "interaction_id": "1"},
        {"user": new_user()},
        {"user": new_user(), "interaction_id": "1", "idempotency_key": "k"},
    ],
)
def test_a_charge_needs_a_user_and_a_key(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        NewCharge(**fields)


@pytest.mark.parametrize(
    "results", [None, [], [{}, {}], [{}], [None], [{"status": "201"}], [{"status": 201, "body": ["x"]}]]
)
def test_an_answer_that_is_none_is_no_outcome(results: Any) -> None:
    with pytest.raises(InvalidReply):
        outcomes_in({"results": results}, ["k"])


def test_find_charge_of_a_user_without_an_account(service: Service) -> None:
    with BillingClient(service.url, service.keys.agent) as client:
        assert client.find_charge(new_user(), interaction_id="1") is None
