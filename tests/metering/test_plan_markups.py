"""The markup of an account's plan on its usage: of the terms that a subscriber keeps, else of the plan on sale."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from app.auth.admins.admins import SYSTEM_ADMIN_ID, ensure_system_admin
from app.configuration.editing import Change, ConfigurationEditor
from app.configuration.sections import PLANS
from app.db.version_mark import VersionMark
from app.metering.service import MARKUPS_SINCE
from app.plans.document import Plan, Plans
from app.plans.shipped import SHIPPED
from tests.conftest import settings_for
from tests.metering.conftest import Desk, llm, usage
from tests.support.wallets import DOLLAR

TOKENS = llm(2_000, 1_000)
"""The reserve of a check. It costs 2.1 cents at list prices."""
LIST_PRICE = 21_000_000
COSTLY = Plan(name="costly", title="Costly", markup_percent="50")


async def sell(desk: Desk, plans: Plans) -> None:
    editor, now = ConfigurationEditor(settings_for(desk.urls)), datetime.now(UTC)
    async with desk.db.transaction() as tx:
        await ensure_system_admin(tx, now)
        version = (await editor.find(tx, PLANS)).version
        change = Change(version, "tests", "tests", SYSTEM_ADMIN_ID, now)
        await editor.change(tx, PLANS, plans.model_dump(mode="json"), change)


@pytest.fixture(scope="module")
async def selling(desk: Desk) -> Desk:
    """The server, once it has read a plan with a markup."""
    plans = Plans(plans=[*SHIPPED.plans, COSTLY])
    await sell(desk, plans)
    deadline = time.monotonic() + 30
    while (await quote(desk, plan="costly"))["cost"] != "0.031500":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return desk


async def quote(desk: Desk, **fields: Any) -> dict[str, Any]:
    answer = await desk.router.post("/v1/usage/quote", json={"metric": TOKENS, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def with_plan(desk: Desk, plan_name: str, kept: int | None) -> str:
    """A user with ten dollars and a plan, and with the markup of the terms that it keeps."""
    user = await desk.user(1000)
    await desk.rows(
        "UPDATE accounts SET plan_name = $2, plan_markup_percent = $3, plan_discount_percent = $4"
        " WHERE account_id = $1 RETURNING account_id",
        await desk.account_id(user),
        plan_name,
        kept,
        None if kept is None else 0,
    )
    return user


@pytest.mark.parametrize(
    ("plan_name", "kept", "percent"),
    [
        ("free", None, 0),
        ("costly", None, 50),
        ("costly", 20, 20),
        ("costly", 0, 0),
        ("withdrawn", 25, 25),
        ("withdrawn", None, 0),
        ("pro", 25, 100),  # a rule of the book names the plan
    ],
)
async def test_charge_quote_check_and_cost_record_agree(
    selling: Desk, plan_name: str, kept: int | None, percent: int
) -> None:
    user, cost = await with_plan(selling, plan_name, kept), LIST_PRICE * (100 + percent) // 100
    in_dollars = f"{cost / DOLLAR:.6f}"
    checked = await selling.router.post(
        "/v1/usage/check",
        json={"user_id": user, "required_cents": 0, "provider": TOKENS["provider"], "model": TOKENS["model"]},
    )
    assert checked.json()["required"] == in_dollars
    quoted = await quote(selling, user_id=user)
    assert quoted["cost"] == in_dollars
    charged = (await selling.router.post("/v1/usage", json=usage(user, event_id="marked", metric=TOKENS))).json()
    assert charged["cost"] == in_dollars
    assert await selling.wallet(user) == (10 * DOLLAR - cost, 0)
    event = (await selling.router.get("/v1/usage/events/marked", params={"user_id": user})).json()
    assert event["lines"] == quoted["lines"]
    assert event["provider_cost"] == f"{LIST_PRICE / DOLLAR:.6f}"
    opened = await selling.router.post(
        "/v1/cost-records", json={"user_id": user, "request_id": str(uuid.uuid4()), "tool": "search"}
    )
    item = await selling.router.post(
        f"/v1/cost-records/{opened.json()['record_id']}/items", json={"item_id": "1", "metric": TOKENS}
    )
    assert (item.status_code, item.json()["cost"]) == (201, in_dollars), item.text


async def test_quote_for_a_plan_is_that_of_new_subscribers_and_for_nobody_has_no_plan(selling: Desk) -> None:
    user = await with_plan(selling, "costly", 20)
    stranger = str(uuid.uuid4())
    assert (await quote(selling, user_id=user, plan="costly"))["cost"] == "0.031500"
    assert (await quote(selling))["cost"] == (await quote(selling, user_id=stranger))["cost"] == "0.021000"


async def test_no_markup_of_a_plan_applies_while_an_older_version_may_run(
    selling: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def excludes_before(self: VersionMark, revision: str) -> bool:
        return revision < MARKUPS_SINCE

    monkeypatch.setattr(VersionMark, "excludes_before", excludes_before)
    assert (await quote(selling, plan="costly"))["cost"] == "0.021000"


async def test_a_cheaper_model_is_priced_with_the_same_markup(selling: Desk) -> None:
    user = await with_plan(selling, "costly", 100)
    metric = llm(100_000_000, 0, "gpt-4o", provider="openai")  # 500 dollars; the small model costs 30 of the 40 left
    await selling.give(user, 30 * DOLLAR)
    refused = await selling.router.post("/v1/usage", json=usage(user, metric=metric))
    [cheaper] = [one for one in refused.json()["remedies"] if one["type"] == "cheaper_model"]
    assert (refused.status_code, cheaper["model"], cheaper["cost"]) == (402, "gpt-4o-mini", "30.000000")
