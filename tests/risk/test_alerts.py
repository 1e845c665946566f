"""Alert rules on books that real calls have written: which accounts they find, their actions, each taken once."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx

from app.analytics.rollup import SETTLED, roll_up
from app.db import Database, new_id
from app.payments import settlement
from app.payments.facts import PaymentFacts
from app.payments.purchase import Purchase
from app.risk import queries
from app.risk.service import look, reason_of
from tests.books import account_locked, connected, waiting_for_locks
from tests.risk.conftest import Shop, account_of, buy, office, person, spender
from tests.support.configurable_service import DOMAIN

ALERTS, RULES = "/admin/alerts", "/admin/alert-rules"
REASON = {"reason": "looked at it, ticket 17"}


async def test_by_default_rules_notify_and_nobody_is_stopped(shop: Shop) -> None:
    assert {row["action"] for row in await shop.rows("SELECT action FROM alert_rules")} == {"notify"}
    assert await shop.look() == 0
    assert await shop.alerts() == []


async def test_a_key_that_opens_many_accounts_is_found_once(shop: Shop, agent: httpx.AsyncClient) -> None:
    await shop.set_rule("accounts_per_key", threshold=4)
    for _ in range(3):
        await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 0
    await agent.post("/v1/billing/check", json=person())
    assert (await shop.look(), await shop.look()) == (1, 0)
    [alert] = await shop.alerts()
    [key] = await shop.rows("SELECT key_id FROM api_keys")
    assert (alert["subject"], alert["observed"], alert["account_ids"]) == (key["key_id"], 4, [])
    await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 0
    assert [row["observed"] for row in await shop.alerts()] == [5]
    assert await shop.look(shop.now + timedelta(hours=3)) == 0  # they are no longer new


async def test_purchases_with_one_card_are_found_across_accounts(shop: Shop, agent: httpx.AsyncClient) -> None:
    """By the fingerprint that Stripe's charges carry: another card's purchases do not count."""
    await shop.set_rule("purchases_per_card", threshold=3, action="hold")
    people = [person() for _ in range(3)]
    for who in people:
        await buy(shop, agent, who)
    other = person()
    await buy(shop, agent, other, "pm_card_createDispute")
    await shop.events()
    fingerprints = await shop.rows("SELECT card_fingerprint AS f, count(*) AS n FROM purchases GROUP BY 1 ORDER BY 2")
    assert [row["n"] for row in fingerprints] == [1, 3]
    assert await shop.look() == 1
    [alert] = await shop.alerts()
    accounts = sorted([await account_of(shop, who) for who in people])
    assert (alert["rule"], alert["observed"], alert["account_ids"]) == ("purchases_per_card", 3, accounts)
    assert fingerprints[1]["f"] not in str(alert)  # the alert shows a digest
    message = reason_of("hold", alert["alert_id"])
    assert [await shop.status(account) for account in accounts] == [("suspended", message)] * 3
    assert await shop.status(await account_of(shop, other)) == ("active", None)
    assert (alert["status"], alert["stopped"]) == ("open", "hold")  # it waits for an admin's decision
    refused = await agent.post("/v1/billing/purchases", json=people[0])
    assert (refused.status_code, refused.json()["detail"]) == (403, f"Account suspended: {message}")


async def test_refunds_of_an_account_are_found(shop: Shop, agent: httpx.AsyncClient) -> None:
    who, calm = person(), person()
    await shop.set_rule("refunds_per_account", threshold=2)
    for buyer in (who, who, calm):
        payment_id = await buy(shop, agent, buyer)
        await shop.app.state.gateway.refund(
            "live", payment_id, 100, idempotency_key=payment_id, request_key=payment_id, at=shop.now
        )
    await shop.events()
    assert await shop.look() == 1
    [alert] = await shop.alerts()
    assert (alert["rule"], alert["observed"], alert["account_ids"]) == (
        "refunds_per_account",
        2,
        [await account_of(shop, who)],
    )
    assert await shop.look(shop.now + timedelta(hours=169)) == 0


async def test_spending_far_above_ones_own_rate_is_found(shop: Shop, agent: httpx.AsyncClient) -> None:
    """Ten times its own daily spending. Accounts that always spend much or little, or are new, do not match."""
    spiky = await spender(shop, agent, usual=20, today=200)
    for usual, today in ((150, 300), (2, 100), (21, 200)):
        await spender(shop, agent, usual=usual, today=today)
    new = person()
    await agent.post("/v1/billing/accounts", json={**new, "initial_balance_minor": 90_000})
    assert (await agent.post("/v1/billing/charges", json={**new, "amount_minor": 80_000})).status_code == 201
    await roll_up(shop.db, datetime.now(UTC) + 2 * SETTLED)
    assert await shop.look(shop.now + 2 * SETTLED) == 1
    [alert] = await shop.alerts()
    assert (alert["rule"], alert["subject"], alert["observed"], alert["usual"]) == ("spend_spike", str(spiky), 200, 20)


async def test_two_workers_at_once_store_one_and_stop_once(shop: Shop, agent: httpx.AsyncClient) -> None:
    account_id = await spender(shop, agent, usual=20, today=400)
    await shop.set_rule("spend_spike", action="suspend")
    await roll_up(shop.db, datetime.now(UTC) + 2 * SETTLED)
    looked = await asyncio.gather(*(shop.look(shop.now + 2 * SETTLED) for _ in range(4)))
    assert sorted(looked) == [0, 0, 0, 1]
    [alert] = await shop.alerts()
    assert await shop.status(account_id) == ("suspended", reason_of("suspend", alert["alert_id"]))


async def test_a_hold_amid_charges_splits_none(shop: Shop, agent: httpx.AsyncClient) -> None:
    """Charges that race with it are booked in full or refused in full, and after it none is booked."""
    who = person()
    await agent.post("/v1/billing/accounts", json={**who, "initial_balance_minor": 100_000})
    account_id = await account_of(shop, who)
    await shop.set_rule("refunds_per_account", threshold=1, action="hold")
    payment_id = await buy(shop, agent, who)
    await shop.app.state.gateway.refund(
        "live", payment_id, None, idempotency_key=payment_id, request_key=payment_id, at=shop.now
    )
    await shop.events()

    booked, charging = 0, asyncio.Event()

    async def charge_until_refused() -> None:
        nonlocal booked
        for _ in range(200):
            answer = await agent.post("/v1/billing/charges", json={**who, "amount_minor": 100})
            if answer.status_code == 403:
                return
            assert answer.status_code == 201
            booked += 1
            charging.set()
        raise AssertionError("never held")

    async def hold() -> int:
        await charging.wait()
        return await shop.look()

    held, *_ = await asyncio.gather(hold(), *(charge_until_refused() for _ in range(8)))
    assert held == 1
    [row] = await shop.rows("SELECT count(*) AS n, coalesce(sum(cost), 0) AS cost FROM charges")
    assert row["n"] == row["cost"] == booked
    assert (await shop.status(account_id))[0] == "suspended"


async def test_an_account_that_cannot_be_locked_holds_up_no_other(shop: Shop, agent: httpx.AsyncClient) -> None:
    """An account that could not be stopped is not stored in the alert either, and is found again."""
    accounts = sorted([await spender(shop, agent, usual=20, today=400) for _ in range(2)])
    await shop.set_rule("spend_spike", action="hold")
    await roll_up(shop.db, datetime.now(UTC) + 2 * SETTLED)
    quick = Database(shop.app.state.settings.database_url, timeout_s=0.3)
    now = shop.now + 2 * SETTLED
    async with account_locked(shop.urls, accounts[0]):
        assert await look(quick, shop.db, shop.app.state.billing, shop.record, now) == 1
    await quick.close()
    assert [(await shop.status(account))[0] for account in accounts] == ["active", "suspended"]
    assert await shop.look(now) == 1
    assert [(await shop.status(account))[0] for account in accounts] == ["suspended", "suspended"]


async def alert_about(shop: Shop, agent: httpx.AsyncClient) -> tuple[str, UUID]:
    account_id = await spender(shop, agent, usual=20, today=400)
    await roll_up(shop.db, datetime.now(UTC) + 2 * SETTLED)
    assert await shop.look(shop.now + 2 * SETTLED) == 1
    return str((await shop.alerts())[-1]["alert_id"]), account_id


async def test_a_person_decides_and_changes_their_mind(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, account_id = await alert_about(shop, agent)
    async with await office(shop) as support:
        listed = (await support.get(ALERTS, params={"status": "open"})).json()
        assert ([row["alert_id"] for row in listed["alerts"]], listed["open_total"]) == ([alert_id], 1)
        steps = {
            "hold": ("acted", "hold", "suspended"),
            "suspend": ("acted", "suspend", "suspended"),
            "reopen": ("open", None, "active"),
            "dismiss": ("dismissed", None, "active"),
        }
        for decision, (status, stopped, standing) in steps.items():
            for _ in range(2):  # twice is once
                answer = await support.post(f"{ALERTS}/{alert_id}/{decision}", json=REASON)
                assert answer.status_code == 200, answer.text
            detail = answer.json()
            assert (detail["status"], detail["stopped"], detail["decided_by"]) == (status, stopped, f"support@{DOMAIN}")
            expected = reason_of(stopped, UUID(alert_id)) if stopped else None
            assert await shop.status(account_id) == (standing, expected)
        assert (await support.get(ALERTS)).json()["open_total"] == 0
        assert await shop.look(shop.now + 2 * SETTLED) == 0  # a dismissed finding does not return on the same day
        timeline = (await support.get(f"/admin/users/{account_id}/timeline", params={"kind": "admin"})).json()
        assert len(timeline["entries"]) == 3
    rows = await shop.rows(
        "SELECT action, after, reason FROM admin_audit_log WHERE target_type = 'alert' ORDER BY audit_id"
    )
    assert [row["action"] for row in rows] == [f"alert.{decision}" for decision in steps]
    assert [json.loads(row["after"])["accounts"] for row in rows] == [1, 1, 1, 0]
    assert {row["reason"] for row in rows} == {REASON["reason"]}


async def test_who_was_stopped_by_others_stays_stopped(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, account_id = await alert_about(shop, agent)
    await shop.app.state.billing.accounts.set_status(account_id, "suspended", "chargeback", shop.now)
    async with await office(shop) as support:
        for decision in ("hold", "dismiss"):
            assert (await support.post(f"{ALERTS}/{alert_id}/{decision}", json=REASON)).status_code == 200
            assert await shop.status(account_id) == ("suspended", "chargeback")


async def test_who_is_stopped_for_two_alerts_goes_on_when_both_are_dismissed(
    shop: Shop, agent: httpx.AsyncClient
) -> None:
    first, account_id = await alert_about(shop, agent)
    [alert] = await shop.alerts()
    async with connected(shop.urls) as connection:  # another rule finds the same account
        second = await connection.fetchval(
            "INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, threshold, window_h, account_ids,"
            " created_at, last_seen_at) SELECT $1, environment, 'refunds_per_account', subject, day, 5, 3, 168,"
            " account_ids, created_at, last_seen_at FROM alerts RETURNING alert_id",
            new_id(),
        )
    async with await office(shop) as support:

        async def decide(alert_id: object, decision: str) -> tuple[str, str | None]:
            assert (await support.post(f"{ALERTS}/{alert_id}/{decision}", json=REASON)).status_code == 200
            return await shop.status(account_id)

        held = ("suspended", reason_of("hold", alert["alert_id"]))
        suspended = ("suspended", reason_of("suspend", second))
        assert [await decide(first, "hold"), await decide(second, "suspend")] == [held, held]
        assert await decide(first, "dismiss") == suspended
        assert [await decide(first, "hold"), await decide(second, "dismiss")] == [suspended, held]
        assert await decide(first, "dismiss") == ("active", None)


async def test_racing_decisions_are_one_after_the_other(shop: Shop, agent: httpx.AsyncClient) -> None:
    alert_id, account_id = await alert_about(shop, agent)
    async with await office(shop) as support:
        posts = (
            support.post(f"{ALERTS}/{alert_id}/{d}", json=REASON) for d in ("hold", "dismiss", "suspend", "reopen") * 3
        )
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} <= {200, 503}
    [alert] = await shop.alerts()
    stopped = alert["stopped"]
    expected = ("suspended", reason_of(stopped, alert["alert_id"])) if stopped else ("active", None)
    assert await shop.status(account_id) == expected


async def test_a_decision_sees_what_the_one_before_it_left(shop: Shop, agent: httpx.AsyncClient) -> None:
    """The second waits for the alert while the first one waits for the account."""
    alert_id, account_id = await alert_about(shop, agent)
    async with (
        await office(shop, "support") as one,
        await office(shop, "admin") as other,
        asyncio.TaskGroup() as deciding,
        account_locked(shop.urls, account_id),
    ):
        deciding.create_task(one.post(f"{ALERTS}/{alert_id}/hold", json=REASON))
        await waiting_for_locks(shop.urls, 1)
        deciding.create_task(other.post(f"{ALERTS}/{alert_id}/dismiss", json=REASON))
        await waiting_for_locks(shop.urls, 2)
    [entry] = await shop.rows("SELECT before FROM admin_audit_log WHERE action = 'alert.dismiss'")
    assert json.loads(entry["before"]) == {"status": "acted", "stopped": "hold"}


async def test_what_cannot_be_decided_is_refused(shop: Shop, agent: httpx.AsyncClient) -> None:
    await shop.set_rule("accounts_per_key", threshold=1)
    await agent.post("/v1/billing/check", json=person())
    assert await shop.look() == 1
    [alert] = await shop.alerts()
    async with await office(shop) as support:
        answer = await support.post(f"{ALERTS}/{alert['alert_id']}/hold", json=REASON)
        assert (answer.status_code, answer.json()["code"]) == (409, "alert_names_no_account")
        assert (await support.post(f"{ALERTS}/{alert['alert_id']}/dismiss", json=REASON)).status_code == 200
        for path in (f"{ALERTS}/{uuid.uuid4()}", f"{ALERTS}/{uuid.uuid4()}/hold"):
            method = "POST" if path.endswith("hold") else "GET"
            answer = await support.request(method, path, json=REASON)
            assert (answer.status_code, answer.json()["code"]) == (404, "alert_not_found")
        for query in ({"status": "new"}, {"rule": "moon"}, {"cursor": "x"}, {"limit": 0}):
            assert (await support.get(ALERTS, params=query)).status_code == 422


async def test_rules_are_changed_while_the_service_runs(shop: Shop, agent: httpx.AsyncClient) -> None:
    rule = {"action": "off", "threshold": 2, "window_h": 5, "minimum": 0}
    async with await office(shop, "admin") as admin:
        changed = (await admin.put(f"{RULES}/accounts_per_key", json={**rule, **REASON})).json()
        assert changed == {"rule": "accounts_per_key", **rule}
        for _ in range(2):
            await agent.post("/v1/billing/check", json=person())
        assert await shop.look() == 0
        await admin.put(f"{RULES}/accounts_per_key", json={**rule, "action": "notify", **REASON})
        assert await shop.look() == 1
        listed = {row["rule"]: row for row in (await admin.get(RULES)).json()["rules"]}
        assert listed["accounts_per_key"]["action"] == "notify"
        assert len(listed) == 4
        for wrong in ({"action": "hold"}, {"threshold": 0}, {"window_h": 721}, {"minimum": -1}, {"action": "close"}):
            answer = await admin.put(f"{RULES}/accounts_per_key", json={**rule, **REASON, **wrong})
            assert answer.status_code == 422
        assert (await admin.put(f"{RULES}/moon", json={**rule, **REASON})).status_code == 422
        metrics = (await admin.get("/metrics")).text
        assert 'billing_alerts_open{rule="accounts_per_key"} 1.0' in metrics
    rows = await shop.rows(
        "SELECT before, after FROM admin_audit_log WHERE target_type = 'alert_rule' ORDER BY audit_id"
    )
    assert [json.loads(row["after"])["action"] for row in rows] == ["off", "notify"]
    assert json.loads(rows[0]["before"])["threshold"] == 1000


async def test_among_many_rows_indexes_are_used(shop: Shop) -> None:
    """An index covers the bounds of each rule: with a month of books, a rule reads its window and not the table."""
    async with connected(shop.urls) as connection:
        await connection.execute("SET enable_seqscan = off")  # small tables: the test is whether an index can be used
        for rule, (statement, bounds) in queries.FINDERS.items():
            [row] = await connection.fetch("SELECT * FROM alert_rules WHERE rule = $1", rule)
            values = {**statement.compile().params, "threshold": 1, "limit": 200, **bounds(dict(row), shop.now)}
            sql = str(statement)
            for name in sorted(values, key=len, reverse=True):
                value = values[name]
                literal = str(value) if isinstance(value, int) else f"'{value}'"
                sql = sql.replace(f":{name}", literal)
            plan = "\n".join(line[0] for line in await connection.fetch(f"EXPLAIN {sql}"))
            assert "Index" in plan
            assert "Seq Scan" not in plan, (rule, plan)


def test_facts_without_a_card_leave_the_known_one() -> None:
    now = datetime.now(UTC)
    purchase = Purchase(
        account_id=uuid.uuid4(),
        purchase_id=uuid.uuid4(),
        environment="live",
        pack="standard",
        credits=20,
        amount_minor=500,
        currency="USD",
        caller_kind="key",
        idempotency_key=None,
        provider="stripe",
        card_fingerprint="fp1",
        status_at=now,
        created_at=now,
        updated_at=now,
    )
    assert settlement._merge(purchase, PaymentFacts("stripe", "pi_1", now)).card_fingerprint == "fp1"
