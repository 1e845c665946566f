"""Checks: they answer that a limit would refuse, and count nothing."""

from typing import Any

import pytest

from tests.limits.conftest import Teller


async def checks(teller: Teller, user: str) -> tuple[bool, bool, bool]:
    """Whether the checks of credits, of a tool and of usage say that the user can pay."""
    boss = teller.boss
    credit = await boss.post("/v1/billing/check", json={"user_id": user, "context": {"agent_id": "scout"}})
    tool = await boss.get("/v1/tools/check/painter", params={"user_id": user})
    usage = await boss.post("/v1/usage/check", json={"user_id": user, "required_cents": 2})
    for answer in (credit, tool, usage):
        assert answer.status_code == 200, answer.text
    return credit.json()["has_credit"], tool.json()["has_credit"], usage.json()["sufficient"]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"amount": "0"}, (False, False, True)),
        ({"amount": "1"}, (True, False, True)),
        ({"amount": "3"}, (True, True, True)),
        ({"amount": "0", "action": "notify"}, (True, True, True)),
        ({"unit": "uses", "amount": "0"}, (False, False, False)),
        ({"unit": "money", "amount": "0.019999999"}, (True, True, False)),
        ({"unit": "money", "amount": "0.02"}, (True, True, True)),
        ({"amount": "0", "scope": {"type": "agent", "value": "scout"}}, (False, True, True)),
        ({"amount": "0", "scope": {"type": "tool", "value": "painter"}}, (True, False, True)),
    ],
)
async def test_checks_say_what_limits_would_refuse(
    terms: dict[str, Any], expected: tuple[bool, bool, bool], teller: Teller, user: str
) -> None:
    assert await checks(teller, user) == (True, True, True)
    await teller.limit(user, **terms)
    assert await checks(teller, user) == expected


async def test_a_check_names_the_limit_and_asks_for_no_purchase(teller: Teller, user: str) -> None:
    await teller.limit(user, amount="0")
    body = (await teller.boss.post("/v1/billing/check", json={"user_id": user})).json()
    assert (body["reason"], body["purchase_required"]) == ("The day limit does not allow this request", False)
    usage = {"user_id": user, "required_cents": 1}
    await teller.limit(user, unit="money", amount="0")
    assert (await teller.boss.post("/v1/usage/check", json=usage)).json()["reason"] == "limit_exceeded"
    await teller.spend("charge", user)
