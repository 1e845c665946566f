"""Accounts that are found after their alert: they join it, and are stopped as the rule or the decision says."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.db import Database
from app.risk import queries, service
from app.risk.service import reason_of
from tests.books import account_locked, connected, waiting_for_locks
from tests.risk.conftest import House, account_of, buy, office, person

ALERTS = "/admin/alerts"
REASON = {"reason": "looked at it, ticket 17"}


async def buyers(house: House, agent: httpx.AsyncClient, count: int, card: str = "pm_card_visa") -> list[UUID]:
    """New accounts, each with one purchase paid by the card."""
    people = [person() for _ in range(count)]
    for who in people:
        await buy(house, agent, who, card)
    await house.events()
    return sorted([await account_of(house, who) for who in people])


async def found_card(house: House, agent: httpx.AsyncClient, action: str = "notify") -> tuple[UUID, list[UUID]]:
    """An alert about a card that paid for three accounts: its id, and the accounts."""
    await house.set_rule("purchases_per_card", threshold=3, action=action)
    accounts = await buyers(house, agent, 3)
    assert await house.look() == 1
    [alert] = await house.alerts()
    return alert["alert_id"], accounts


async def decide(house: House, alert_id: UUID, decision: str) -> None:
    async with await office(house) as support:
        answer = await support.post(f"{ALERTS}/{alert_id}/{decision}", json=REASON)
        assert answer.status_code == 200, answer.text


async def audited(house: House, account_id: UUID) -> list[dict[str, Any]]:
    rows = await house.rows(
        "SELECT admin_email, action, after, reason FROM admin_audit_log"
        " WHERE target_type = 'account' AND target_id = $1 ORDER BY audit_id",
        str(account_id),
    )
    return [{**row, "after": json.loads(row["after"])} for row in rows]


@pytest.mark.parametrize(
    ("action", "decision", "status", "stopped", "joins_as"),
    [
        ("notify", None, "open", None, "active"),
        ("hold", None, "open", "hold", "suspended"),
        ("suspend", None, "open", "suspend", "suspended"),
        ("notify", "hold", "acted", "hold", "suspended"),
        ("notify", "suspend", "acted", "suspend", "suspended"),
        ("notify", "dismiss", "open", None, "active"),
        ("notify", "reopen", "open", None, "active"),
        ("hold", "dismiss", "open", "hold", "suspended"),
        ("hold", "suspend", "acted", "suspend", "suspended"),
    ],
)
async def test_a_later_account_joins_as_the_rule_and_the_decision_say(
    house: House,
    agent: httpx.AsyncClient,
    action: str,
    decision: str | None,
    status: str,
    stopped: str | None,
    joins_as: str,
) -> None:
    """Stopped at once, with an audit row, if the rule or the decision stops accounts; otherwise the alert is open, if
    necessary again.
    """
    alert_id, accounts = await found_card(house, agent, action)
    if decision is not None:
        await decide(house, alert_id, decision)
    before = [await house.status(account) for account in accounts]
    assert await house.look() == 0
    assert [await house.status(account) for account in accounts] == before
    [later] = await buyers(house, agent, 1)
    assert await house.look() == 0
    [alert] = await house.alerts()
    assert alert["account_ids"] == sorted([*accounts, later])
    assert (alert["status"], alert["stopped"], alert["observed"]) == (status, stopped, 4)
    reason = None if joins_as == "active" else reason_of(stopped or "", alert_id)
    assert await house.status(later) == (joins_as, reason)
    rows = await audited(house, later)
    assert [row["action"] for row in rows] == ([] if reason is None else ["account.suspend"])
    assert all(row["after"] == {"status": "suspended", "status_reason": reason} for row in rows)
    assert all(row["admin_email"] == "system" for row in rows)
    # The rule stops no account again that an admin has released, and none twice.
    assert [await house.status(account) for account in accounts] == before
    assert await house.look() == 0
    assert await house.alerts() == [alert | {"last_seen_at": (await house.alerts())[0]["last_seen_at"]}]
    assert len(await audited(house, later)) == len(rows)
    assert (alert["reopened_at"] is not None) == (decision == "dismiss")


async def test_what_a_rule_stops_at_first_sight_is_audited_too(house: House, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(house, agent, "hold")
    for account in accounts:
        [row] = await audited(house, account)
        assert (row["admin_email"], row["action"]) == ("system", "account.suspend")
        assert "purchases_per_card" in row["reason"]
        assert str(alert_id) in row["after"]["status_reason"]
    async with await office(house, "admin") as admin:
        listed = (await admin.get("/admin/audit-logs", params={"action": "account.suspend"})).json()["entries"]
        assert len(listed) == len(accounts)
        people = (await admin.get("/admin/admins")).json()["admins"]
        assert {one["admin_id"] for one in people}.isdisjoint({entry["admin_id"] for entry in listed})
        assert (
            await admin.patch(f"/admin/admins/{listed[0]['admin_id']}", json={"disabled": False})
        ).status_code == 404


async def test_an_alert_that_opens_again_is_counted_as_open(house: House, agent: httpx.AsyncClient) -> None:
    """The overview and the metric read this number."""
    alert_id, _ = await found_card(house, agent)
    await decide(house, alert_id, "dismiss")
    async with await office(house) as support:
        assert (await support.get(ALERTS, params={"limit": 1})).json()["open_total"] == 0
        await buyers(house, agent, 1)
        await house.look()
        assert (await support.get(ALERTS, params={"limit": 1})).json()["open_total"] == 1
        alert = (await support.get(f"{ALERTS}/{alert_id}")).json()
        assert (alert["status"], alert["decided_by"] is not None, alert["reopened_at"] is not None) == (
            "open",
            True,
            True,
        )
    [row] = await house.rows("SELECT admin_email, reason FROM admin_audit_log WHERE action = 'alert.open_again'")
    assert row["admin_email"] == "system"


async def test_what_doubles_opens_a_dismissed_alert_again(house: House, agent: httpx.AsyncClient) -> None:
    """Also about a key, whose accounts an alert does not name."""
    await house.set_rule("accounts_per_key", threshold=2)
    for _ in range(2):
        await agent.post("/v1/billing/check", json=person())
    assert await house.look() == 1
    [alert] = await house.alerts()
    await decide(house, alert["alert_id"], "dismiss")
    await agent.post("/v1/billing/check", json=person())
    assert await house.look() == 0
    assert [row["status"] for row in await house.alerts()] == ["dismissed"]  # 3 are not twice 2
    await agent.post("/v1/billing/check", json=person())
    assert await house.look() == 0
    assert [(row["status"], row["observed"]) for row in await house.alerts()] == [("open", 4)]


async def test_a_hold_decided_yesterday_holds_the_accounts_of_today(house: House, agent: httpx.AsyncClient) -> None:
    """The next day has a separate alert, for an admin to review; accounts that the last decision stops are stopped."""
    alert_id, accounts = await found_card(house, agent)
    await decide(house, alert_id, "hold")
    await house.set_rule("purchases_per_card", window_h=72)
    async with connected(house.urls) as connection:
        await connection.execute(
            "UPDATE alerts SET day = day - 1, decided_at = decided_at - interval '1 day' WHERE alert_id = $1", alert_id
        )
    [later] = await buyers(house, agent, 1)
    assert await house.look() == 1
    old, new = await house.alerts()
    assert (old["status"], new["status"], new["stopped"]) == ("acted", "open", "hold")
    assert await house.status(later) == ("suspended", reason_of("hold", new["alert_id"]))
    for account in accounts:  # held once, by the first one
        assert await house.status(account) == ("suspended", reason_of("hold", alert_id))
    await decide(house, new["alert_id"], "dismiss")
    assert await house.status(later) == ("active", None)


async def test_a_decision_lasts_until_the_end_of_its_day(house: House, agent: httpx.AsyncClient) -> None:
    """An alert of yesterday that is dismissed today is not raised again a minute later."""
    alert_id, _ = await found_card(house, agent)
    async with connected(house.urls) as connection:
        await connection.execute("UPDATE alerts SET day = day - 1 WHERE alert_id = $1", alert_id)
    await decide(house, alert_id, "dismiss")
    await house.set_rule("purchases_per_card", window_h=72)
    assert await house.look() == 0
    assert await house.look(house.now + timedelta(days=1)) == 1


async def test_a_hold_by_hand_covers_those_whom_the_rule_spared(house: House, agent: httpx.AsyncClient) -> None:
    """Dismissed accounts that a later finding spares are stopped when a person holds the alert, and not before."""
    alert_id, accounts = await found_card(house, agent, "hold")
    await decide(house, alert_id, "dismiss")
    [later] = await buyers(house, agent, 1)
    await house.look()
    async with connected(house.urls) as connection:  # another rule's alert about the first account
        other = await connection.fetchval(
            "INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, threshold, window_h, account_ids,"
            " created_at, last_seen_at) VALUES (gen_random_uuid(), 'live', 'refunds_per_account', $1, current_date, 5,"
            " 3, 168, $2, now(), now()) RETURNING alert_id",
            str(accounts[0]),
            [accounts[0]],
        )
    await decide(house, other, "hold")
    await decide(house, other, "dismiss")
    assert await house.status(accounts[0]) == ("active", None)  # let go on by both
    await decide(house, alert_id, "hold")
    held = ("suspended", reason_of("hold", alert_id))
    assert [await house.status(account) for account in [*accounts, later]] == [held] * 4
    await decide(house, alert_id, "reopen")
    assert [await house.status(account) for account in [*accounts, later]] == [("active", None)] * 4


async def test_many_workers_let_an_account_join_once(house: House, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(house, agent)
    await decide(house, alert_id, "hold")
    later = await buyers(house, agent, 2)
    assert await asyncio.gather(*(house.look() for _ in range(4))) == [0] * 4
    [alert] = await house.alerts()
    assert alert["account_ids"] == sorted([*accounts, *later])
    for account in later:
        assert len(await audited(house, account)) == 1


async def test_an_account_joins_between_a_scan_and_a_decision(house: House, agent: httpx.AsyncClient) -> None:
    """The scan has read before the decision, and writes after it: it does what the decision says."""
    alert_id, _ = await found_card(house, agent)
    [later] = await buyers(house, agent, 1)
    async with await office(house) as support, asyncio.TaskGroup() as racing, house.db.transaction() as tx:
        await queries.lock_alert(tx, alert_id)
        racing.create_task(support.post(f"{ALERTS}/{alert_id}/hold", json=REASON))
        await waiting_for_locks(house.urls, 1)
        racing.create_task(house.look())
        await waiting_for_locks(house.urls, 2)
    [alert] = await house.alerts()
    assert (alert["status"], alert["stopped"]) == ("acted", "hold")
    assert await house.status(later) == ("suspended", reason_of("hold", alert_id))


async def test_an_account_that_is_locked_joins_with_the_next_look(house: House, agent: httpx.AsyncClient) -> None:
    """It joins and is held in one transaction, so that no crash leaves one without the other."""
    alert_id, accounts = await found_card(house, agent)
    await decide(house, alert_id, "hold")
    [later] = await buyers(house, agent, 1)
    quick = Database(house.app.state.settings.database_url, timeout_s=0.3)
    async with account_locked(house.urls, later):
        await service.look(quick, house.db, house.app.state.billing, house.record, house.now)
    await quick.close()
    assert [row["account_ids"] for row in await house.alerts()] == [accounts]
    assert (await house.look(), (await house.status(later))[0]) == (0, "suspended")


async def test_many_accounts_join_a_bounded_number_at_a_time(
    house: House, agent: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is missed, however many there are, and an alert's list is bounded."""
    monkeypatch.setattr(service, "STOPPED_AT_ONCE", 2)
    monkeypatch.setattr(service, "MAX_ACCOUNTS", 7)
    _, accounts = await found_card(house, agent, "hold")
    later = await buyers(house, agent, 5)
    await house.look()
    [alert] = await house.alerts()
    assert len(alert["account_ids"]) == 7
    assert set(accounts) < set(alert["account_ids"]) < {*accounts, *later}
    for account in alert["account_ids"]:
        assert (await house.status(account))[0] == "suspended"


async def test_an_account_reopened_by_hand_is_not_held_again(house: House, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(house, agent)
    await decide(house, alert_id, "hold")
    await house.app.state.billing.accounts.set_status(accounts[0], "active", None, house.now)
    await house.look()
    assert await house.status(accounts[0]) == ("active", None)
