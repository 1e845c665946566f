"""The audit of the chaos run finds settled holds, exceeded budgets, and approvals that two charges used."""

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from app.accounts.directory import Identity
from app.approvals.service import ApprovalService, Decision, place_of
from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import Database
from app.db.version_mark import VersionMark
from app.holds.service import HoldService
from app.ledger.outcomes import New, Refused
from app.ledger.pools import CREDIT, Credits
from app.limits.service import LimitService, NewLimit
from app.runs.service import Budget, NewRun, RunService
from tests.books import connected
from tests.chaos.audit import _booked
from tests.chaos.control import CAREFUL, control_problems
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.holds.conftest import capture, done, held, release
from tests.support.wallets import open_account

KEY = Actor("api_key", "0123456789abcdef")


async def test_the_audit_notices_overspent_budgets_and_approvals_that_were_used_twice(own_database: Urls) -> None:
    db, now = Database(SecretStr(own_database.service)), datetime.now(UTC)
    billing = BillingService(db, Configuration(db, settings_for(own_database)))
    runs = RunService(db, CostRecordService(db, billing.batcher, billing.configuration))
    account_id = await open_account(billing, Identity("live", "oauth:google", "one"), now)
    await billing.credit(
        account_id, credits=Credits(10), currency="USD", transaction_type="grant", actor=ACTOR, now=now
    )
    await runs.register(account_id, NewRun("root", None, Budget(1, False)), now)
    await runs.register(account_id, NewRun("step", "root"), now)
    asks = NewLimit("agent", CAREFUL, "lifetime", CREDIT, 0, "ask")
    await LimitService(db, billing.accounts, VersionMark(db)).put(account_id, asks, "operator", now)
    careful = ChargeRequest(account_id, 200, None, KEY, now, details={"agent_id": CAREFUL})
    refused = await billing.charge(careful)
    assert isinstance(refused, Refused)
    place = place_of(str(refused.error.figures["approval_id"]))
    decision = Decision(2, timedelta(hours=1))
    await ApprovalService(db, billing.accounts, runs).decide("live", place, decision, ACTOR, now)
    for request in (careful, ChargeRequest(account_id, 100, None, KEY, now, run_id="step")):
        assert isinstance(await billing.charge(request), New)
    assert await control_problems(own_database) == []
    async with connected(own_database) as connection:
        for change, word in (
            ("UPDATE runs SET budget = 0 WHERE run_id = 'root'", "run: "),
            ("UPDATE runs SET budget = 1, spent_credits = 0 WHERE run_id = 'root'", "run: "),
            ("UPDATE runs SET spent_credits = 1 WHERE run_id = 'root'", ""),
            ("UPDATE approvals SET allowed = 1", "approvals: "),
            ("UPDATE approvals SET allowed = 2, status = 'approved', used_at = NULL", "approvals: "),
        ):
            await connection.execute(change)
            problems = await control_problems(own_database)
            assert [problem[: len(word)] for problem in problems] == ([word] if word else [])
    await db.close()


async def test_the_audit_finds_how_holds_were_settled(own_database: Urls) -> None:
    db, now = Database(SecretStr(own_database.service)), datetime.now(UTC)
    billing = BillingService(db, Configuration(db, settings_for(own_database)))
    holds = HoldService(db, billing.batcher, billing.configuration)
    account_id = await open_account(billing, Identity("live", "oauth:google", "one"), now)
    captured, released, _ = [await held(holds, account_id, 1, now, idempotency_key=key) for key in "abc"]
    spending_id = done(await holds.run(capture(captured, 1, now))).spending_id
    done(await holds.run(release(released, now)))
    assert await _booked(own_database, "capture", {"a", "b", "c"}) == {"a": [str(spending_id)]}
    assert await _booked(own_database, "release", {"a", "b", "c"}) == {"b": ["released"]}
    await db.close()
