"""Descriptions on the wire are texts: clients that require one can read every charge, credit and transaction."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, StrictStr

from app.billing import descriptions
from app.billing.posting import give_credits
from app.db import Database
from app.ledger.locked_account import Kind, lock_account, write
from tests.billing.test_charges import body
from tests.billing.test_credits import CREDITS, credit
from tests.billing.test_key_spaces import by_key
from tests.conftest import ACTOR

CREDIT_TYPES = {
    "purchase": "Purchase of 20 credits",
    "grant": "Grant of 20 credits",
    "refund": "Refund of 20 credits",
    "adjustment": "Adjustment of 20 credits",
    "bonus": "Bonus of 20 credits",
}
TAKEN_BACK = {
    Kind.REFUND_REVERSAL: "Refund reversal of 2 credits",
    Kind.DISPUTE_REVERSAL: "Dispute reversal of 1 credit",
}


class StrictTransaction(BaseModel):
    """As agents and their SDK read it: one that does not fit makes the whole history unreadable."""

    model_config = ConfigDict(extra="ignore")
    transaction_id: StrictStr
    type: StrictStr
    amount_minor: int
    currency: StrictStr
    description: StrictStr
    created_at: StrictStr
    balance_after: int


async def history(client: httpx.AsyncClient, user: dict[str, str]) -> list[str]:
    """The descriptions of all transactions, oldest first."""
    answer = await client.get("/v1/billing/transactions", params={**user, "limit": 500})
    return [StrictTransaction.model_validate(row).description for row in answer.json()["transactions"]][::-1]


async def test_a_strict_client_reads_every_transaction(
    minter: httpx.AsyncClient, user: dict[str, str], db: Database, now: datetime
) -> None:
    await minter.post("/v1/billing/check", json=user)
    expected = []
    for kind, text in CREDIT_TYPES.items():
        for given in (None, "", "Welcome"):
            answer = await minter.post(CREDITS, json=credit(user, description=given, transaction_type=kind))
            expected.append(text if given is None else given)
            assert answer.json()["description"] == expected[-1]
    for given in (None, "", "An answer"):
        answer = await minter.post("/v1/billing/charges", json=body(user, description=given))
        expected.append("Agent interaction" if given is None else given)
        assert answer.json()["description"] == expected[-1]
    for _ in range(6):  # of which the main pool pays the last
        await minter.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
    await take_back(db, UUID(answer.json()["account_id"]), now)
    assert await history(minter, user) == [*expected, "image_gen", *TAKEN_BACK.values()]


async def take_back(db: Database, account_id: UUID, now: datetime) -> None:
    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        for kind, credits in zip(TAKEN_BACK, (-2, -1), strict=True):
            await give_credits(tx, account, credits, kind.value, actor=ACTOR, now=now)
        await write(tx, [account], now)


async def test_replays_and_single_charges_have_a_description(minter: httpx.AsyncClient, user: dict[str, str]) -> None:
    answers: list[Any] = [await minter.post("/v1/billing/charges", json=body(user, "k")) for _ in range(2)]
    answers.append(await minter.get(f"/v1/billing/charges/{answers[0].json()['charge_id']}"))
    answers.append(await by_key(minter, "k", **user))
    assert [answer.json()["description"] for answer in answers] == ["Agent interaction"] * 4
    credits = [await minter.post(CREDITS, json=credit(user, 100, idempotency_key="k")) for _ in range(2)]
    assert [answer.status_code for answer in credits] == [201, 409]
    assert [answer.json()["description"] for answer in credits] == ["Grant of 1 credit"] * 2


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
def test_every_kind_of_credit_has_words(kind: str) -> None:
    text = descriptions.of_credit(None, kind, -5)
    assert text == f"{kind.replace('_', ' ').capitalize()} of 5 credits"
