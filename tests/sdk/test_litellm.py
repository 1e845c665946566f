"""LiteLLM itself against the service: its scenarios run in a separate environment; this module reads their results."""

import asyncio
import json
import math
import os
import subprocess
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest
from sqlalchemy import text

from app.db import Database
from ciris_billing import AsyncBillingClient, User, _interactions
from ciris_billing._interactions import Call, Interaction, Interactions
from tests.databases import ROOT
from tests.metering.conftest import Desk
from tests.sdk import blocks
from tests.sdk.conftest import Service, usage_key

SCENARIOS = [
    *("awaited", "same_name", "unnamed", "failing", "streamed", "in_block", "unpaid_after_all"),
    *("bought_meanwhile", "in_proxy", "odd_prices", "metered", "money_only"),
]
BLOCKS = {str(block): block.code for block in blocks.BLOCKS if block.needs_litellm}
"""Those of the documentation."""
COST_CENTS = Decimal("0.021")
"""Of each call: a thousand tokens of prompt and a hundred of answer, by LiteLLM's list of prices."""
REPORTS = text(
    "SELECT u.interaction_id, u.call_id, u.total_llm_calls, u.total_prompt_tokens, u.actual_cost_cents, u.models_used,"
    " u.error_count FROM llm_usage u JOIN account_identities i USING (account_id)"
    " WHERE i.external_id = :external_id ORDER BY u.interaction_id, u.created_at"
)


async def run_in_litellm(script: str, given: str, **more: str) -> list[str]:
    """Run a script of this folder in LiteLLM's environment. Return the lines that it printed: the scenarios that held.
    The prices of models come from LiteLLM's package, not from afar."""
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'sdk' / 'src'}:{ROOT}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, LiteLLM loads in a third of the time
        **more,
    }

    def run() -> "subprocess.CompletedProcess[str]":
        subprocess.run([ROOT / "scripts" / "environment", "litellm", "sdk/litellm.lock"], cwd=ROOT, check=True)
        command = [ROOT / ".tools" / "litellm" / "bin" / "python", ROOT / "tests" / "sdk" / script]
        return subprocess.run(command, env=env, input=given, capture_output=True, text=True, timeout=280)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return done.stdout.splitlines()


async def run_scenarios(service: Service, **more: str) -> list[str]:
    keys = {"BILLING_API_KEY": service.keys.agent, "BILLING_CREDITING_KEY": service.keys.credit}
    return await run_in_litellm("with_litellm.py", json.dumps(BLOCKS), BILLING_URL=service.url, **keys, **more)


async def reports(db: Database, user: str) -> dict[str, list[dict[str, Any]]]:
    """Return the reports on a scenario's user, by interaction."""
    async with db.transaction() as tx:
        rows = (await tx.execute(REPORTS, {"external_id": f"{user}@example.com"})).mappings()
        return {
            name: [dict(row) for row in of_one] for name, of_one in groupby(rows, lambda row: row["interaction_id"])
        }


@pytest.mark.timeout(300)  # seconds on an idle machine, a minute and more on a busy one
async def test_checks_before_charges_once_and_reports_each_call(
    service: Service, db: Database, usage_desk: Desk
) -> None:
    """One test, because LiteLLM takes long to load."""
    rich, poor = await usage_desk.user(100), await usage_desk.user(0)
    money = {"USAGE_URL": usage_desk.url, "USAGE_API_KEY": usage_key(usage_desk), "RICH": rich, "POOR": poor}
    assert await run_scenarios(service, **money) == [*SCENARIOS, "service_away", "blocking", *BLOCKS]
    await calls_are_paid_in_money(usage_desk, rich)
    assert len(BLOCKS) == 3
    await blocks_are_one_interaction(db)
    for user, calls in (("awaited", [3, 3, 3]), ("blocking", [2, 2, 2]), ("in_block", [2, 1])):
        await each_call_is_reported_and_one_summary(db, user, calls)
    await failed_calls_are_reported_under_names_of_their_own(db)
    await what_nobody_pays_for_and_what_is_refused_is_not_reported(db)
    await odd_prices_lose_no_report(db)


async def calls_are_paid_in_money(desk: Desk, user_id: str) -> None:
    """Each call by its price: 0.15 and 0.60 dollars for a million tokens."""
    events = await desk.events(user_id)
    assert [(event["run_id"], event["cost_nanos"]) for event in events] == [("i-1", 210_000), ("i-2", 210_000)]


async def blocks_are_one_interaction(db: Database) -> None:
    """Of one name in both, charged once; each of its three calls and the two of one block are reported."""
    (rows,) = (await reports(db, "chatter")).values()
    assert sorted(row["call_id"] == "summary" for row in rows) == [False, False, False, True]


async def each_call_is_reported_and_one_summary(db: Database, user: str, calls: list[int]) -> None:
    found = await reports(db, user)
    assert [len([row for row in rows if row["call_id"] != "summary"]) for rows in found.values()] == calls
    for rows in found.values():
        single = [row for row in rows if row["call_id"] != "summary"]
        assert len({row["call_id"] for row in single}) == len(single)
        assert {(row["total_llm_calls"], row["actual_cost_cents"]) for row in single} == {(1, COST_CENTS)}
        summaries = [row for row in rows if row["call_id"] == "summary"]
        assert len(summaries) == (len(single) > 1)
        for summary in summaries:
            assert summary["total_prompt_tokens"] == 1000 * summary["total_llm_calls"]
            assert summary["actual_cost_cents"] == COST_CENTS * summary["total_llm_calls"]
            assert summary["models_used"] == ["gpt-4o-mini"]


async def failed_calls_are_reported_under_names_of_their_own(db: Database) -> None:
    (rows,) = (await reports(db, "failing")).values()
    *failed, summary = rows
    assert [(row["call_id"][-7:], row["error_count"], row["total_prompt_tokens"]) for row in failed] == [
        (":failed", 1, 0),
        (":failed", 1, 0),
    ]
    assert (summary["call_id"], summary["total_llm_calls"], summary["error_count"]) == ("summary", 2, 2)


async def what_nobody_pays_for_and_what_is_refused_is_not_reported(db: Database) -> None:
    assert [len(rows) for rows in (await reports(db, "unnamed")).values()] == [1, 1]
    assert "i-4" not in await reports(db, "awaited")
    assert set(await reports(db, "in_proxy")) == {"i-0", "i-1", "i-2"}
    assert await reports(db, "service_away") == {}


async def odd_prices_lose_no_report(db: Database) -> None:
    for rows in (await reports(db, "odd_prices")).values():
        assert [(row["total_prompt_tokens"], row["actual_cost_cents"]) for row in rows] == [(1000, 0)]


def test_idle_and_surplus_interactions_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_interactions, "MAX_INTERACTIONS", 2)
    now, user = 0.0, User("oauth:litellm", "idle")
    known = Interactions(idle_s=60, clock=lambda: now)
    for name in ("block", "idle"):
        known.find(user, name)
    known.find(user, "block").in_block = True
    now = 61.0
    assert [one.interaction_id for one in known.take_old()] == ["idle"]
    for name in ("fresh", "fresher"):
        known.find(user, name)
    assert [one.interaction_id for one in known.take_old()] == ["block"]  # more than two: the oldest, of any age
    assert [one.interaction_id for one in known.take_all()] == ["fresh", "fresher"]


@pytest.mark.parametrize(
    ("unusable", "name"),
    [
        ({"response_cost": -0.0147}, "response_cost"),
        ({"response_cost": math.nan}, "response_cost"),
        ({"response_cost": math.inf}, "response_cost"),
        ({"response_cost": -math.inf}, "response_cost"),
        ({"response_cost": "unknown"}, "response_cost"),
        ({"response_cost": [0.1]}, "response_cost"),
        ({"response_cost": 10**8}, "response_cost"),
        ({"response_cost": 10**400}, "response_cost"),
        ({"prompt_tokens": -5}, "prompt_tokens"),
        ({"completion_tokens": math.nan}, "completion_tokens"),
    ],
    ids=str,
)
async def test_a_figure_that_cannot_be_right_loses_no_report(
    unusable: dict[str, Any], name: str, client: AsyncBillingClient, who: User, caplog: pytest.LogCaptureFixture
) -> None:
    logged = {"model": "m", "prompt_tokens": 1000, "completion_tokens": 100, "response_cost": 0.0147, **unusable}
    call = Call.ended({"litellm_call_id": "c", "standard_logging_object": logged}, 12, failed=False)
    report = call.report()
    counts = {
        "prompt_tokens": report["total_prompt_tokens"],
        "completion_tokens": report["total_completion_tokens"],
        "response_cost": round(report["actual_cost_cents"], 2),
    }
    assert counts == {"prompt_tokens": 1000, "completion_tokens": 100, "response_cost": 1.47, name: 0}
    [record] = [record for record in caplog.records if record.name == "ciris_billing"]
    assert name in record.getMessage()
    assert (await client.report_llm_usage(who, interaction_id="i", **report)).logged


def test_call_that_is_told_of_twice_counts_once() -> None:
    interaction = Interaction(User("oauth:litellm", "twice"), "i")
    for failed in (True, True, False, False):
        interaction.add(Call({}, "call", failed=failed))
    assert (interaction.calls, interaction.errors) == (2, 1)


def test_call_that_outlasts_its_block_is_not_charged() -> None:
    """The block may have raised, and then nothing is."""
    known, user = Interactions(idle_s=60), User("oauth:litellm", "late")
    late, other = (Call({"interaction_id": "i"}, call_id) for call_id in ("late", "other"))
    block = known.find(user, "i")
    block.in_block = True
    known.begin(user, late)
    known.wait_for(block, 0)
    known.take(user, "i")
    afterwards = known.find(user, "i")
    assert [known.needs_charge(afterwards, call) for call in (late, other)] == [False, True]
