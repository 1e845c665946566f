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
from tests.risk.conftest import Shop, account_of, buy, office, person

ALERTS = "/admin/alerts"
REASON = {"reason": "looked at it, ticket 17"}


async def buyers(shop: Shop, agent: httpx.AsyncClient, count: int, card: str = "pm_card_visa") -> list[UUID]:
    """New accounts, each with one purchase paid by the card."""
    people = [person() for _ in range(count)]
    for who in people:
        await buy(shop, agent, who, card)
    await shop.events()
    return sorted([await account_of(shop, who) for who in people])


async def found_card(shop: Shop, agent: httpx.AsyncClient, action: str = "notify") -> tuple[UUID, list[UUID]]:
    """An alert about a card that paid for three accounts: its id, and the accounts."""
    await shop.set_rule("purchases_per_card", threshold=3, action=action)
    accounts = await buyers(shop, agent, 3)
    assert await shop.look() == 1
    [alert] = await shop.alerts()
    return alert["alert_id"], accounts


async def decide(shop: Shop, alert_id: UUID, decision: str) -> None:
    async with await office(shop) as support:
        answer = await support.post(f"{ALERTS}/{alert_id}/{decision}", json=REASON)
        assert answer.status_code == 200, answer.text


async def audited(shop: Shop, account_id: UUID) -> list[dict[str, Any]]:
    rows = await shop.rows(
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
    shop: Shop,
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
    alert_id, accounts = await found_card(shop, agent, action)
    if decision is not None:
        await decide(shop, alert_id, decision)
    before = [await shop.status(account) for account in accounts]
    assert await shop.look() == 0
    assert [await shop.status(account) for account in accounts] == before
    [later] = await buyers(shop, agent, 1)
    assert await shop.look() == 0
    [alert] = await shop.alerts()
    assert alert["account_ids"] == sorted([*accounts, later])
    assert (alert["status"], alert["stopped"], alert["observed"]) == (status, stopped, 4)
    reason = None if joins_as == "active" else reason_of(stopped or "", alert_id)
    assert await shop.status(later) == (joins_as, reason)
    rows = await audited(shop, later)
    assert [row["action"] for row in rows] == ([] if reason is None else ["account.suspend"])
    assert all(row["after"] == {"status": "suspended", "status_reason": reason} for row in rows)
    assert all(row["admin_email"] == "system" for row in rows)
    # The rule stops no account again that an admin has released, and none twice.
    assert [await shop.status(account) for account in accounts] == before
    assert await shop.look() == 0
    assert await shop.alerts() == [alert | {"last_seen_at": (await shop.alerts())[0]["last_seen_at"]}]
    assert len(await audited(shop, later)) == len(rows)
    assert (alert["reopened_at"] is not None) == (decision == "dismiss")


async def test_what_a_rule_stops_at_first_sight_is_audited_too(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(shop, agent, "hold")
    for account in accounts:
        [row] = await audited(shop, account)
        assert (row["admin_email"], row["action"]) == ("system", "account.suspend")
        assert "purchases_per_card" in row["reason"]
        assert str(alert_id) in row["after"]["status_reason"]
    async with await office(shop, "admin") as admin:
        listed = (await admin.get("/admin/audit-logs", params={"action": "account.suspend"})).json()["entries"]
        assert len(listed) == len(accounts)
        people = (await admin.get("/admin/admins")).json()["admins"]
        assert {one["admin_id"] for one in people}.isdisjoint({entry["admin_id"] for entry in listed})
        assert (
            await admin.patch(f"/admin/admins/{listed[0]['admin_id']}", json={"disabled": False})
        ).status_code == 404


async def test_an_alert_that_opens_again_is_counted_as_open(shop: Shop, agent: httpx.AsyncClient) -> None:
    """The overview and the metric read this number."""
    alert_id, _ = await found_card(shop, agent)
    await decide(shop, alert_id, "dismiss")
    async with await office(shop) as support:
        assert (await support.get(ALERTS, params={"limit": 1})).json()["open_total"] == 0
        await buyers(shop, agent, 1)
        await shop.look()
        assert (await support.get(ALERTS, params={"limit": 1})).json()["open_total"] == 1
        alert = (await support.get(f"{ALERTS}/{alert_id}")).json()
        assert (alert["status"], alert["decided_by"] is not None, alert["reopened_at"] is not None) == (
            "open",
            True,
            True,
        )
    [row] = await shop.rows("SELECT admin_email, reason FROM admin_audit_log WHERE action = 'alert.open_again'")
    assert row["admin_email"] == "system"


async def test_what_doubles_opens_a_dismissed_alert_again(shop: Shop, agent: httpx.AsyncClient) -> None:
    """Also about a key, whose accounts an alert does not name."""
    await shop.set_rule("accounts_per_key", threshold=2)
    for _ in range(2):
        await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 1
    [alert] = await shop.alerts()
    await decide(shop, alert["alert_id"], "dismiss")
    await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 0
    assert [row["status"] for row in await shop.alerts()] == ["dismissed"]  # 3 are not twice 2
    await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 0
    assert [(row["status"], row["observed"]) for row in await shop.alerts()] == [("open", 4)]


async def test_a_hold_decided_yesterday_holds_the_accounts_of_today(shop: Shop, agent: httpx.AsyncClient) -> None:
    """The next day has a separate alert, for an admin to review; accounts that the last decision stops are stopped."""
    alert_id, accounts = await found_card(shop, agent)
    await decide(shop, alert_id, "hold")
    await shop.set_rule("purchases_per_card", window_h=72)
    async with connected(shop.urls) as connection:
        await connection.execute(
            "UPDATE alerts SET day = day - 1, decided_at = decided_at - interval '1 day' WHERE alert_id = $1", alert_id
        )
    [later] = await buyers(shop, agent, 1)
    assert await shop.look() == 1
    old, new = await shop.alerts()
    assert (old["status"], new["status"], new["stopped"]) == ("acted", "open", "hold")
    assert await shop.status(later) == ("suspended", reason_of("hold", new["alert_id"]))
    for account in accounts:  # held once, by the first one
        assert await shop.status(account) == ("suspended", reason_of("hold", alert_id))
    await decide(shop, new["alert_id"], "dismiss")
    assert await shop.status(later) == ("active", None)


async def test_a_decision_lasts_until_the_end_of_its_day(shop: Shop, agent: httpx.AsyncClient) -> None:
    """An alert of yesterday that is dismissed today is not raised again a minute later."""
    alert_id, _ = await found_card(shop, agent)
    async with connected(shop.urls) as connection:
        await connection.execute("UPDATE alerts SET day = day - 1 WHERE alert_id = $1", alert_id)
    await decide(shop, alert_id, "dismiss")
    await shop.set_rule("purchases_per_card", window_h=72)
    assert await shop.look() == 0
    assert await shop.look(shop.now + timedelta(days=1)) == 1


async def test_a_hold_by_hand_covers_those_whom_the_rule_spared(shop: Shop, agent: httpx.AsyncClient) -> None:
    """Dismissed accounts that a later finding spares are stopped when a person holds the alert, and not before."""
    alert_id, accounts = await found_card(shop, agent, "hold")
    await decide(shop, alert_id, "dismiss")
    [later] = await buyers(shop, agent, 1)
    await shop.look()
    async with connected(shop.urls) as connection:  # another rule's alert about the first account
        other = await connection.fetchval(
            "INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, threshold, window_h, account_ids,"
            " created_at, last_seen_at) VALUES (gen_random_uuid(), 'live', 'refunds_per_account', $1, current_date, 5,"
            " 3, 168, $2, now(), now()) RETURNING alert_id",
            str(accounts[0]),
            [accounts[0]],
        )
    await decide(shop, other, "hold")
    await decide(shop, other, "dismiss")
    assert await shop.status(accounts[0]) == ("active", None)  # let go on by both
    await decide(shop, alert_id, "hold")
    held = ("suspended", reason_of("hold", alert_id))
    assert [await shop.status(account) for account in [*accounts, later]] == [held] * 4
    await decide(shop, alert_id, "reopen")
    assert [await shop.status(account) for account in [*accounts, later]] == [("active", None)] * 4


async def test_many_workers_let_an_account_join_once(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(shop, agent)
    await decide(shop, alert_id, "hold")
    later = await buyers(shop, agent, 2)
    assert await asyncio.gather(*(shop.look() for _ in range(4))) == [0] * 4
    [alert] = await shop.alerts()
    assert alert["account_ids"] == sorted([*accounts, *later])
    for account in later:
        assert len(await audited(shop, account)) == 1


async def test_an_account_joins_between_a_scan_and_a_decision(shop: Shop, agent: httpx.AsyncClient) -> None:
    """The scan has read before the decision, and writes after it: it does what the decision says."""
    alert_id, _ = await found_card(shop, agent)
    [later] = await buyers(shop, agent, 1)
    async with await office(shop) as support, asyncio.TaskGroup() as racing, shop.db.transaction() as tx:
        await queries.lock_alert(tx, alert_id)
        racing.create_task(support.post(f"{ALERTS}/{alert_id}/hold", json=REASON))
        await waiting_for_locks(shop.urls, 1)
        racing.create_task(shop.look())
        await waiting_for_locks(shop.urls, 2)
    [alert] = await shop.alerts()
    assert (alert["status"], alert["stopped"]) == ("acted", "hold")
    assert await shop.status(later) == ("suspended", reason_of("hold", alert_id))


async def test_an_account_that_is_locked_joins_with_the_next_look(shop: Shop, agent: httpx.AsyncClient) -> None:
    """It joins and is held in one transaction, so that no crash leaves one without the other."""
    alert_id, accounts = await found_card(shop, agent)
    await decide(shop, alert_id, "hold")
    [later] = await buyers(shop, agent, 1)
    quick = Database(shop.app.state.settings.database_url, timeout_s=0.3)
    async with account_locked(shop.urls, later):
        await service.look(quick, shop.db, shop.app.state.billing, shop.record, shop.now)
    await quick.close()
    assert [row["account_ids"] for row in await shop.alerts()] == [accounts]
    assert (await shop.look(), (await shop.status(later))[0]) == (0, "suspended")


async def test_many_accounts_join_a_bounded_number_at_a_time(
    shop: Shop, agent: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is missed, however many there are, and an alert's list is bounded."""
    monkeypatch.setattr(service, "STOPPED_AT_ONCE", 2)
    monkeypatch.setattr(service, "MAX_ACCOUNTS", 7)
    _, accounts = await found_card(shop, agent, "hold")
    later = await buyers(shop, agent, 5)
    await shop.look()
    [alert] = await shop.alerts()
    assert len(alert["account_ids"]) == 7
    assert set(accounts) < set(alert["account_ids"]) < {*accounts, *later}
    for account in alert["account_ids"]:
        assert (await shop.status(account))[0] == "suspended"


async def test_an_account_reopened_by_hand_is_not_held_again(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, accounts = await found_card(shop, agent)
    await decide(shop, alert_id, "hold")
    await shop.app.state.billing.accounts.set_status(accounts[0], "active", None, shop.now)
    await shop.look()
    assert await shop.status(accounts[0]) == ("active", None)
