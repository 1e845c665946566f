"""The demo's made-up month: plausible, proved by the ledger, and the same in every run."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from app.accounts.directory import Opening, Profile
from app.analytics.days import Days
from app.analytics.money_reports import find_standing, sum_movements
from app.analytics.usage_reports import find_usage
from app.auth.caller import Environment
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.demo.data import PAID_USER
from app.demo.price_books import prepare_price_books
from app.demo.stand_ins import PACKS
from app.demo.traffic.events import (
    Adjusted,
    Bought,
    Charged,
    Credited,
    Event,
    GrantGiven,
    Metered,
    MoneyPaid,
    ProfileSet,
    Reported,
    ToolUsed,
    Worked,
)
from app.demo.traffic.people import LIVE_PEOPLE
from app.demo.traffic.story import write_story
from app.pricing.usage import LlmTokens
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR, settings_for
from tests.databases import ROOT, Urls, create_database, drop_database
from tests.servers import LocalStripe, running_stripe

PEOPLE = 48
UNTIL = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
TIMEOUT_S = 90
TABLES = (
    "accounts account_profiles charges ledger_entries product_usage_log credits purchases purchase_disputes "
    "payment_events llm_usage api_keys admin_users admin_audit_log "
    "usage_events usage_attempts grants money_credits cost_records cost_record_items unknown_models"
)
IDS = {
    "accounts": "account_id",
    "charges": "charge_id",
    "product_usage_log": "usage_log_id",
    "credits": "credit_id",
    "purchases": "purchase_id",
    "llm_usage": "usage_log_id",
    "admin_audit_log": "audit_id",
    "usage_events": "usage_id",
    "grants": "grant_id",
    "money_credits": "money_credit_id",
    "cost_records": "record_id",
    "cost_record_items": "addition_id",
}


@dataclass(frozen=True)
class DemoDatabase:
    """A database in which the demo was set up at UNTIL, and the local Stripe."""

    urls: Urls
    local: LocalStripe

    def environment(self) -> dict[str, str]:
        test_keys = {**self.local.keys, "webhook_secret": "whsec_of_the_test_environment"}
        own = {"MODE": "demo", "DATABASE_URL": self.urls.service, "PACKS": json.dumps(PACKS)}
        return {**os.environ, **self.local.environment, **own, "STRIPE_TEST": json.dumps(test_keys)}

    @contextlib.contextmanager
    def generating(self) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "app.demo.traffic", "--people", str(PEOPLE)]
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment(), stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def generate(self) -> None:
        with self.generating() as process:
            assert process.wait(TIMEOUT_S) == 0

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql)]

    async def one(self, sql: str, *values: object) -> Any:
        async with connected(self.urls) as connection:
            return await connection.fetchval(sql, *values)

    async def counts(self) -> dict[str, int]:
        return {table: await self.one(f"SELECT count(*) FROM {table}") for table in TABLES.split()}

    async def statuses(self, table: str, column: str = "status") -> dict[object, int]:
        rows = await self.rows(f"SELECT {column} AS status, count(*) AS n FROM {table} GROUP BY 1")
        return {row["status"]: row["n"] for row in rows}

    async def verify(self) -> None:
        db = Database(SecretStr(self.urls.service), pool_size=3)
        verification = await verify_books(db, datetime.now(UTC))
        await db.close()
        assert verification.ok, verification.problem


@contextlib.asynccontextmanager
async def new_demo() -> AsyncIterator[DemoDatabase]:
    name = f"billing_{uuid.uuid4().hex}"
    urls = await create_database(name)
    try:
        db = Database(SecretStr(urls.service), pool_size=3)
        await BillingService(db, Configuration(db, settings_for(urls))).accounts.get_or_create_account(
            PAID_USER, Profile(), Opening(paid=7), ACTOR, UNTIL
        )
        await prepare_price_books(db, UNTIL)
        await db.close()
        with running_stripe() as local:
            yield DemoDatabase(urls, local)
    finally:
        await drop_database(name)


def written(live_people: int) -> list[Event]:
    return write_story(UNTIL, settings_for(Urls("", "postgresql://unused", ""), packs=PACKS), live_people)


def test_the_story_is_plausible() -> None:
    story = written(LIVE_PEOPLE)
    charged = [event for event in story if isinstance(event, Charged)]
    assert 7_000 < len(charged) < 13_000
    assert story[-1].at < UNTIL
    assert len(newcomers(story)) > LIVE_PEOPLE
    weeks = Counter((UNTIL - event.at).days // 7 for event in charged)
    assert weeks[0] > 2 * weeks[4]  # growth
    days = Counter(event.at.weekday() >= 5 for event in charged)
    assert days[True] / 2 < 0.85 * days[False] / 5  # quieter weekends
    by_user = sorted(Counter(event.identity for event in charged).values(), reverse=True)
    assert sum(by_user[: len(by_user) // 10]) > len(charged) / 2  # a few make the most of it
    assert {event.identity.oauth_provider for event in charged} == {"oauth:google", "oauth:wa", "oauth:discord"}
    assert len({event.agent_id for event in charged}) == 6
    bought = [event for event in story if isinstance(event, Bought)]
    assert sum(event.is_paid for event in bought) > 0.8 * len(bought)
    tried = {card for event in bought if event.given_up_at is None for card, _ in event.attempts}
    assert {"pm_card_chargeDeclined", "pm_card_processing", "pm_card_authenticationRequired"} < tried
    metered = [event.usage for event in story if isinstance(event, Metered)]
    assert 800 < len(metered) < 2_500
    assert len({event.usage.model for event in metered if isinstance(event.usage, LlmTokens)}) > 6
    assert {event.attribution.agent_id for event in metered} == {"scout", "sage", "datum"}
    assert {event.attribution.tool for event in metered} == {None, "web_search", "code_runner"}
    proxied = {event.message_id for event in charged if event.agent_id in ("scout", "echo")}
    assert {event.report.interaction_id for event in story if isinstance(event, Reported)} == proxied


def newcomers(story: list[Event]) -> set[object]:
    return {event.identity for event in story if isinstance(event, ProfileSet)}


async def check_the_books(demo: DemoDatabase) -> None:
    """Everything that was planned is there, once, and each state that the back office can show."""
    await demo.verify()
    counts = await demo.counts()
    planned = Counter(type(event) for event in written(PEOPLE))
    assert counts["accounts"] == PEOPLE + PEOPLE // 10 + 1
    assert await demo.one("SELECT count(*) FROM charges WHERE operation = 'charge'") == planned[Charged]
    assert counts["product_usage_log"] == planned[ToolUsed]
    assert counts["llm_usage"] == planned[Reported]
    assert counts["purchases"] == planned[Bought]
    shared = "SELECT count(DISTINCT account_id) FROM purchases GROUP BY environment, card_fingerprint"
    shared = f"{shared} HAVING card_fingerprint IS NOT NULL AND count(DISTINCT account_id) > 1"
    assert await demo.rows(shared) == []  # each buyer has a separate card
    own = "SELECT count(*) FROM credits WHERE transaction_type IN ('bonus', 'grant', 'adjustment')"
    assert await demo.one(own) == planned[Credited] + planned[Adjusted]
    assert set(await demo.statuses("accounts")) == {"active", "suspended", "closed"}
    purchases = {"succeeded", "failed", "canceled", "processing", "requires_action", "requires_payment_method"}
    assert set(await demo.statuses("purchases")) == purchases
    assert await demo.statuses("purchase_disputes") == {"open": 1, "lost": 1}
    assert await demo.statuses("payment_events", "outcome") == {"applied": counts["payment_events"]}
    assert await demo.one("SELECT count(*) FROM purchases WHERE refunded_minor > 0") == 3
    assert await demo.one("SELECT count(*) FROM accounts WHERE debt > 0") >= 1
    assert {"bonus", "purchase", "refund_reversal", "dispute_reversal", "adjustment"} <= set(
        await demo.statuses("credits", "transaction_type")
    )
    assert {True, False} <= set(await demo.statuses("account_profiles", "marketing_opt_in"))
    assert set(await demo.statuses("product_usage_log", "source")) == {"free", "main_pool"}
    keys = await demo.rows(
        "SELECT count(revoked_at) AS r, count(rotated_to) AS o, count(expires_at) AS e FROM api_keys"
    )
    assert keys == [{"r": 1, "o": 1, "e": 1}]
    assert set(await demo.statuses("admin_users", "role")) == {"admin", "support", "viewer"}
    actions = {"account.suspend", "account.reopen", "account.close", "account.adjust", "purchase.refund"}
    assert actions < set(await demo.statuses("admin_audit_log", "action"))


async def check_the_money(demo: DemoDatabase) -> None:
    """Usage, grants and records of each kind, on both sides of the price change."""
    planned = Counter(type(event) for event in written(PEOPLE))
    assert await demo.one("SELECT count(*) FROM usage_events WHERE meter <> 'cost-record'") == planned[Metered]
    assert set(await demo.statuses("usage_events")) == {"charged", "debt", "refused"}
    assert set(await demo.statuses("cost_records")) == {"completed", "failed"}
    assert await demo.one("SELECT count(*) FROM cost_records") == planned[Worked]
    assert await demo.one("SELECT count(*) FROM grants WHERE unit = 'USD'") == planned[GrantGiven]
    assert await demo.one("SELECT count(*) FROM grants WHERE expires_at < $1", UNTIL) > 0
    soon = UNTIL + timedelta(days=7)
    assert await demo.one("SELECT count(*) FROM grants WHERE remaining > 0 AND expires_at < $1", soon) > 0
    assert await demo.one("SELECT count(*) FROM money_credits") == planned[MoneyPaid]
    assert await demo.one("SELECT count(DISTINCT price_version) FROM usage_events") == 2
    assert await demo.one("SELECT count(*) FROM accounts WHERE money_debt_nanos > 0") > 0
    assert [row["model"] for row in await demo.rows("SELECT model FROM unknown_models")] == ["mistral-large-2"]


async def check_the_times(demo: DemoDatabase) -> None:
    """Ids, by which the back office lists, and Stripe's times are those of the story."""
    for table, column in IDS.items():
        ms = f"('x' || left(replace({column}::text, '-', ''), 12))::bit(48)::bigint"
        apart = await demo.one(
            f"SELECT max(abs({ms} - extract(epoch FROM created_at) * 1000)) FROM {table} WHERE created_at < $1", UNTIL
        )
        assert apart < 1.01, table
        assert await demo.one(f"SELECT max(created_at) FROM {table}") <= UNTIL
    assert await demo.one("SELECT max(received_at) FROM payment_events") < UNTIL
    assert await demo.one("SELECT max(abs(extract(epoch FROM received_at - created_at))) FROM payment_events") < 1.01
    assert await demo.one("SELECT max(updated_at) FROM accounts") <= UNTIL


async def check_the_overview(demo: DemoDatabase) -> None:
    """All that came in and did not go out is there."""
    db = Database(SecretStr(demo.urls.service), pool_size=3)
    environments: tuple[Environment, ...] = ("live", "test")
    async with db.consistent_read() as session:
        for environment in environments:
            days = Days(environment, date(2020, 1, 1), date(2030, 1, 1))
            moved = await sum_movements(session, days)
            spent = await find_usage(session, days)
            standing = await find_standing(session, environment, today=UNTIL.date(), daily_free=0)
            assert min(moved["sold"], moved["granted"], spent["paid"]) > 0
            left = standing["paid_outstanding"] - standing["debt"]
            assert moved["sold"] + moved["granted"] - moved["taken_back"] - spent["paid"] == left
    await db.close()


@pytest.mark.timeout(300)  # three times the whole story
async def test_broken_off_told_to_the_end_and_told_again() -> None:
    async with new_demo() as demo:
        with demo.generating() as process:
            deadline = time.monotonic() + TIMEOUT_S
            while await demo.one("SELECT count(*) FROM charges") < 100:
                assert process.poll() is None
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
        demo.generate()
        await check_the_books(demo)
        await check_the_money(demo)
        await check_the_times(demo)
        await check_the_overview(demo)
        before = await demo.counts()
        demo.generate()
        assert await demo.counts() == before
        await demo.verify()
