"""Unusual activity: the scan that stores alerts, and the decisions about them.

A worker's job scans every few minutes, so no charge waits for it. Hold and suspend have the same effect on an account,
which can neither spend nor buy; only their wording differs. An account is stopped under its lock, with a reason that
names the alert. A decision therefore releases exactly the accounts that its alert stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog

from app.auth.audit import RecordBySystem
from app.billing.service import BillingService
from app.db import Database, Session, new_id
from app.errors import is_database_unavailable
from app.risk import queries
from app.risk.errors import AlertNamesNoAccount, AlertNotFound
from app.risk.queries import MAX_ACCOUNTS

Rule = Literal["accounts_per_key", "purchases_per_card", "refunds_per_account", "spend_spike"]
AlertKind = Literal["accounts_per_key", "purchases_per_card", "refunds_per_account", "spend_spike", "burn_rate"]
"""Of an alert: the rule that raised it, or the burn-rate brake, whose amounts are configured elsewhere."""
Action = Literal["off", "notify", "hold", "suspend"]
AlertStatus = Literal["open", "dismissed", "acted"]
Decision = Literal["dismiss", "hold", "suspend", "reopen"]
STATUS_AFTER: dict[Decision, AlertStatus] = {
    "dismiss": "dismissed",
    "hold": "acted",
    "suspend": "acted",
    "reopen": "open",
}
STOPPED_AT_ONCE = 50
"""Accounts that one transaction locks and stops."""
DOUBLE = 2
"""A decided alert opens again when the observed value is so many times that of the decision."""
log = structlog.get_logger()


def reason_of(stopped: str, alert_id: UUID) -> str:
    """Return the reason that the agent receives. It identifies the accounts that an alert stopped."""
    words = "On hold for unusual activity" if stopped == "hold" else "Unusual activity"
    return f"{words}: alert {alert_id}"


@dataclass(frozen=True, slots=True)
class Scan:
    """The context of one scan."""

    db: Database
    billing: BillingService
    record: RecordBySystem
    now: datetime


async def look(db: Database, reports: Database, billing: BillingService, record: RecordBySystem, now: datetime) -> int:
    """Store what is unusual now, and act by the rules and earlier decisions. Return the number of new alerts.

    A known finding only adds its later accounts to its alert (`_join`). `reports` must allow its statements longer than
    a request may take.
    """
    new = 0
    async with reports.read() as session:
        rules = [rule for rule in await queries.list_rules(session) if rule["action"] != "off"]
        unusual = [(rule, found) for rule in rules for found in await queries.find_unusual(session, rule, now)]
    scan = Scan(db, billing, record, now)
    for rule, found in unusual:
        try:
            new += await _store(scan, rule, found)
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            # Perhaps an account's lock. The next run finds it again, and the other findings do not wait for it.
            log.warning("alert_not_stored", rule=rule["rule"], error=type(error).__name__)
    return new


async def _store(scan: Scan, rule: queries.Row, found: queries.Row) -> bool:
    """Return whether the finding is new. Each transaction stops a bounded number of accounts, as it locks them all."""
    accounts, is_new = sorted(found["account_ids"]), False
    for first in range(0, max(1, len(accounts)), STOPPED_AT_ONCE):
        part = {**found, "rule": rule["rule"], "account_ids": accounts[first : first + STOPPED_AT_ONCE]}
        async with scan.db.transaction() as tx:
            is_new |= await _store_part(tx, scan, rule, part)
    return is_new


async def _store_part(tx: Session, scan: Scan, rule: queries.Row, found: queries.Row) -> bool:
    """Insert an alert, or add the accounts to their subject's alert. Locks the alert, then accounts."""
    alert = await queries.lock_latest_alert(tx, found)
    if alert is None or _is_of_the_past(alert, scan.now):
        if await _open(tx, scan, rule, found, last=alert):
            return True
        alert = await queries.lock_latest_alert(tx, found)  # another worker's, committed since
        assert alert is not None
    await _join(tx, scan, rule, found, alert)
    return False


def _is_of_the_past(alert: queries.Row, now: datetime) -> bool:
    """Return whether the alert was decided on an earlier UTC day, so that a finding now is a new one."""
    days = [alert["day"], *([alert["decided_at"].date()] if alert["decided_at"] else [])]
    return alert["status"] != "open" and all(day < now.date() for day in days)


async def _open(tx: Session, scan: Scan, rule: queries.Row, found: queries.Row, *, last: queries.Row | None) -> bool:
    """Store a new alert and stop its accounts, in the same transaction. False: another worker has stored the day's."""
    alert_id = new_id()
    # The last decision about the subject stays in force on the next day.
    stop = (last and last["stopped"]) or _stop_of(rule)
    row = {
        **found,
        "alert_id": alert_id,
        "day": scan.now.date(),
        "threshold": rule["threshold"],
        "window_h": rule["window_h"],
        "stopped": stop,
        "created_at": scan.now,
        "last_seen_at": scan.now,
    }
    if not await queries.insert_alert(tx, row):
        return False
    why = _why(rule, last)
    stopped = [] if stop is None else await _stop_and_record(tx, scan, row, found["account_ids"], stop, why)
    log.warning(
        "unusual_activity",
        alert_id=str(alert_id),
        rule=rule["rule"],
        environment=found["environment"],
        observed=found["observed"],
        action=rule["action"],
        accounts_stopped=len(stopped),
    )
    return True


async def _join(tx: Session, scan: Scan, rule: queries.Row, found: queries.Row, alert: queries.Row) -> None:
    """Add accounts that were found after their alert, and stop them if the alert or its rule stops accounts.

    Otherwise a decided alert opens again, as it does when twice as much is seen as at the decision. `alert` is locked.
    """
    known = alert["account_ids"]
    joining = [one for one in found["account_ids"] if one not in known][: max(0, MAX_ACCOUNTS - len(known))]
    decided = alert["status"] != "open"
    if decided and not joining and found["observed"] < DOUBLE * alert["observed"]:
        return
    changes: dict[str, Any] = {
        "account_ids": sorted([*known, *joining]),
        "observed": max(alert["observed"], found["observed"]),
        "last_seen_at": scan.now,
    }
    stop = alert["stopped"] or (_stop_of(rule) if joining else None)
    if stop != alert["stopped"]:  # by the rule, which does not stop those again whom a person let go on
        changes |= {"stopped": stop, "exempt_ids": known}
    opens = decided and (alert["stopped"] is None or not joining)
    if opens:
        changes |= {"status": "open", "reopened_at": scan.now}
    await queries.update_alert(tx, alert["alert_id"], changes)
    why = _why(rule, alert)
    if opens:
        await scan.record(
            tx,
            "alert.open_again",
            "alert",
            alert["alert_id"],
            environment=alert["environment"],
            after={"status": "open", "joined": len(joining), "observed": changes["observed"]},
            reason=f"Found again by {rule['rule']}",
            now=scan.now,
        )
    stopped = []
    if stop is not None and joining:
        stopped = await _stop_and_record(tx, scan, alert, joining, stop, why)
    if joining or opens:
        log.warning(
            "unusual_activity_goes_on",
            alert_id=str(alert["alert_id"]),
            rule=rule["rule"],
            environment=alert["environment"],
            observed=changes["observed"],
            joined=len(joining),
            opened_again=opens,
            accounts_stopped=len(stopped),
        )


def _stop_of(rule: queries.Row) -> str | None:
    return rule["action"] if rule["action"] in ("hold", "suspend") else None


def _why(rule: queries.Row, alert: queries.Row | None) -> str:
    """Return the audit row's reason: the decision in force, or else the rule's action."""
    if alert is not None and alert["stopped"] is not None and alert["status"] == "acted":
        return (
            f"Found by {rule['rule']}; {alert['decided_by']} decided to {alert['stopped']} (alert {alert['alert_id']})"
        )
    return f"Found by {rule['rule']}, whose action is to {(alert and alert['stopped']) or rule['action']}"


async def _stop_and_record(
    tx: Session, scan: Scan, alert: queries.Row, account_ids: Sequence[UUID], stop: str, why: str
) -> list[UUID]:
    """Stop these accounts of an alert, each with an audit row. Return the accounts that this call stopped."""
    stopped = await _stop(tx, scan.billing, {**alert, "account_ids": account_ids}, stop, scan.now)
    for account_id in stopped:
        await scan.record(
            tx,
            "account.suspend",
            "account",
            account_id,
            environment=alert["environment"],
            after={"status": "suspended", "status_reason": reason_of(stop, alert["alert_id"])},
            reason=why,
            now=scan.now,
        )
    return stopped


async def decide(
    tx: Session, billing: BillingService, alert_id: UUID, decision: Decision, by: str, now: datetime
) -> tuple[dict[str, Any], list[UUID]]:
    """Carry out an admin's decision. Return the alert before it, and the accounts that were stopped or released.

    Locks the alert, then its accounts. The same decision again changes nothing. Raises AlertNotFound,
    AlertNamesNoAccount.
    """
    row = await queries.lock_alert(tx, alert_id)
    if row is None:
        raise AlertNotFound
    before = dict(row)
    stop = decision if decision in ("hold", "suspend") else None
    if stop is not None and not row["account_ids"]:
        raise AlertNamesNoAccount
    if (row["status"], row["stopped"]) == (STATUS_AFTER[decision], stop):
        return before, []
    if stop is not None:
        changed = await _stop(tx, billing, row, stop, now)
    else:
        changed = await _let_go_on(tx, billing, row, now)
    changes: dict[str, Any] = {
        "status": STATUS_AFTER[decision],
        "stopped": stop,
        "exempt_ids": [],
        "reopened_at": None,
        "decided_at": now,
        "decided_by": by,
    }
    await queries.update_alert(tx, alert_id, changes)
    return before, changed


async def _stop(tx: Session, billing: BillingService, alert: queries.Row, stop: str, now: datetime) -> list[UUID]:
    ours = {reason_of(name, alert["alert_id"]) for name in ("hold", "suspend")}
    reason = reason_of(stop, alert["alert_id"])
    return [
        account_id
        for account_id in sorted(alert["account_ids"])
        if await billing.accounts.suspend_unless_stopped_in(tx, account_id, reason, ours, now)
    ]


async def _let_go_on(tx: Session, billing: BillingService, alert: queries.Row, now: datetime) -> list[UUID]:
    """Release the alert's accounts. Return them. An account that another alert stops stays stopped, with its reason."""
    ours = {reason_of(name, alert["alert_id"]) for name in ("hold", "suspend")}
    going_on = []
    for account_id in sorted(alert["account_ids"]):
        if not await billing.accounts.reopen_if_stopped_in(tx, account_id, ours, now):
            continue
        other = await queries.find_alert_that_stops(tx, account_id, but=alert["alert_id"])  # under the account's lock
        if other is None:
            going_on.append(account_id)
        else:
            reason = reason_of(other["stopped"], other["alert_id"])
            await billing.accounts.suspend_unless_stopped_in(tx, account_id, reason, (), now)
    return going_on
