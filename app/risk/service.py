"""Looks for unusual activity, and carries out what follows from it.

Nothing here is on a charge's way: a worker's job looks every few minutes. To hold and to suspend an account are the
same for its user, who can neither spend nor buy; they differ in their words, and so in what support hears first. An
account is stopped under its lock like by an admin, with a reason that names the alert. So what an alert stopped can be
let go on, and what others stopped stays stopped.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog

from app.billing.service import BillingService
from app.db import Database, Session, new_id
from app.errors import is_database_unavailable
from app.risk import queries
from app.risk.errors import AlertNamesNoAccount, AlertNotFound

Rule = Literal["accounts_per_key", "purchases_per_card", "refunds_per_account", "spend_spike"]
Action = Literal["off", "notify", "hold", "suspend"]
AlertStatus = Literal["open", "dismissed", "acted"]
Decision = Literal["dismiss", "hold", "suspend", "reopen"]
STATUS_AFTER: dict[Decision, AlertStatus] = {
    "dismiss": "dismissed",
    "hold": "acted",
    "suspend": "acted",
    "reopen": "open",
}
log = structlog.get_logger()


def reason_of(stopped: str, alert_id: UUID) -> str:
    """What the agent hears, and by which the accounts that an alert stopped are known."""
    words = "On hold for unusual activity" if stopped == "hold" else "Unusual activity"
    return f"{words}: alert {alert_id}"


async def look(db: Database, reports: Database, billing: BillingService, now: datetime) -> int:
    """Store what is unusual now, and do what the rules say: the number of new alerts.

    What was found before is only noted again. `reports` must allow its statements longer than a request may take.
    """
    new = 0
    async with reports.read() as session:
        rules = [rule for rule in await queries.list_rules(session) if rule["action"] != "off"]
        unusual = [(rule, found) for rule in rules for found in await queries.find_unusual(session, rule, now)]
    for rule, found in unusual:
        try:
            async with db.transaction() as tx:
                new += await _store(tx, billing, rule, found, now)
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            # An account's lock, perhaps. It is found again by the next run, and the others are not kept waiting.
            log.warning("alert_not_stored", rule=rule["rule"], error=type(error).__name__)
    return new


async def _store(tx: Session, billing: BillingService, rule: queries.Row, found: queries.Row, now: datetime) -> bool:
    """Whether it is new. Then its accounts are stopped in the same transaction, if the rule says so."""
    if await queries.see_again(tx, {**found, "rule": rule["rule"]}, now):
        return False
    alert_id, action = new_id(), rule["action"]
    row = {
        **found,
        "alert_id": alert_id,
        "rule": rule["rule"],
        "day": now.date(),
        "threshold": rule["threshold"],
        "window_h": rule["window_h"],
        "stopped": None if action == "notify" else action,
        "created_at": now,
        "last_seen_at": now,
    }
    if not await queries.insert_alert(tx, row):
        return False
    stopped = [] if action == "notify" else await _stop(tx, billing, row, action, now)
    log.warning(
        "unusual_activity",
        alert_id=str(alert_id),
        rule=rule["rule"],
        environment=found["environment"],
        observed=found["observed"],
        action=action,
        accounts_stopped=len(stopped),
    )
    return True


async def decide(
    tx: Session, billing: BillingService, alert_id: UUID, decision: Decision, by: str, now: datetime
) -> tuple[dict[str, Any], list[UUID]]:
    """Do what a person decided: the alert as it was before, and the accounts that were stopped or let go on.

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
    changes = {"status": STATUS_AFTER[decision], "stopped": stop, "decided_at": now, "decided_by": by}
    await queries.update_alert(tx, alert_id, changes)
    return before, changed


async def _stop(tx: Session, billing: BillingService, alert: queries.Row, stop: str, now: datetime) -> list[UUID]:
    ours = {reason_of(name, alert["alert_id"]) for name in ("hold", "suspend")}
    reason = reason_of(stop, alert["alert_id"])
    return [
        account_id
        for account_id in sorted(alert["account_ids"])
        if await billing.suspend_unless_stopped_in(tx, account_id, reason, ours, now)
    ]


async def _let_go_on(tx: Session, billing: BillingService, alert: queries.Row, now: datetime) -> list[UUID]:
    """The accounts that go on. One that another alert stops as well stays stopped, by that one's reason."""
    ours = {reason_of(name, alert["alert_id"]) for name in ("hold", "suspend")}
    going_on = []
    for account_id in sorted(alert["account_ids"]):
        if not await billing.reopen_if_stopped_in(tx, account_id, ours, now):
            continue
        other = await queries.find_alert_that_stops(tx, account_id, but=alert["alert_id"])  # under the account's lock
        if other is None:
            going_on.append(account_id)
        else:
            reason = reason_of(other["stopped"], other["alert_id"])
            await billing.suspend_unless_stopped_in(tx, account_id, reason, (), now)
    return going_on
