"""`/admin/alerts`: unusual activity that rules have found, the decisions about it, and the rules."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from app.admin.alerts.schemas import (
    AlertPerson,
    AlertReply,
    AlertsReply,
    DecisionBody,
    RuleBody,
    RuleReply,
    RulesReply,
)
from app.admin.audit.log import Admin
from app.admin.audit.queries import find_last_reasons
from app.admin.changed import ChangedMeanwhile, ChangedReply, find_last_change
from app.admin.dependencies import Administrator, Db, Support, Viewer
from app.admin.people import find_cards, find_people
from app.admin.support_limits import Limits, counted
from app.admin.users import queries as user_queries
from app.admin.users.router import require_anonymous
from app.auth.caller import Environment
from app.auth.guarded_route import GuardedRoute
from app.billing.dependencies import Billing
from app.billing.service import BillingService
from app.db import Database, Session
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, ErrorReply
from app.risk import queries
from app.risk.errors import AlertNotFound
from app.risk.service import AlertKind, AlertStatus, Decision, Rule, decide, reason_of
from app.settings import Settings

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
CHANGE: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": ChangedReply | ErrorReply}}
DECISIONS = ("alert.dismiss", "alert.hold", "alert.suspend", "alert.reopen")
router = APIRouter(prefix="/admin", tags=["admin: alerts"], responses=ERRORS, route_class=GuardedRoute)


@router.get("/alerts")
async def list_alerts(
    admin: Viewer,
    db: Db,
    status: AlertStatus | None = None,
    rule: AlertKind | None = None,
    environment: Environment | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> AlertsReply:
    """List alerts, newest first. `open_total` counts all open alerts and ignores the filters."""
    async with db.read() as session:
        rows = await queries.list_alerts(
            session, before=cursor, limit=limit + 1, status=status, rule=rule, environment=environment
        )
        waiting = await queries.count_open(session)
        alerts = await _replies(session, rows[:limit])
    cursor = alerts[-1].alert_id if len(rows) > limit else None
    return AlertsReply(alerts=alerts, next_cursor=cursor, open_total=sum(waiting.values()))


@router.get("/alerts/{alert_id}", responses=NOT_FOUND)
async def get_alert(alert_id: UUID, admin: Viewer, db: Db) -> AlertReply:
    return await _reply(db, alert_id)


@router.post("/alerts/{alert_id}/dismiss", responses=CHANGE)
async def dismiss_alert(
    alert_id: UUID, body: DecisionBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> AlertReply:
    """Dismiss the alert as harmless: release its hold or suspension."""
    return await _decide(alert_id, "dismiss", body, admin, limits, db, billing)


@router.post("/alerts/{alert_id}/hold", responses=CHANGE)
async def hold_alert(
    alert_id: UUID, body: DecisionBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> AlertReply:
    """Hold the alert's accounts: they can neither spend nor buy until an admin decides. The agent is notified."""
    return await _decide(alert_id, "hold", body, admin, limits, db, billing)


@router.post("/alerts/{alert_id}/suspend", responses=CHANGE)
async def suspend_alert(
    alert_id: UUID, body: DecisionBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> AlertReply:
    """Suspend the alert's accounts: they can neither spend nor buy. Already stopped accounts stay as they are."""
    return await _decide(alert_id, "suspend", body, admin, limits, db, billing)


@router.post("/alerts/{alert_id}/reopen", responses=CHANGE)
async def reopen_alert(
    alert_id: UUID, body: DecisionBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> AlertReply:
    """Reopen a wrong decision: the alert is open again, and its hold or suspension is released."""
    return await _decide(alert_id, "reopen", body, admin, limits, db, billing)


@router.get("/alert-rules")
async def list_alert_rules(admin: Viewer, db: Db) -> RulesReply:
    async with db.read() as session:
        return RulesReply(rules=[RuleReply(**row) for row in await queries.list_rules(session)])


@router.put("/alert-rules/{rule}")
async def change_alert_rule(rule: Rule, body: RuleBody, admin: Administrator, db: Db) -> RuleReply:
    """Change a rule. It applies with the worker's next run, within five minutes. Existing alerts stay as they are."""
    if rule == "accounts_per_key" and body.action in ("hold", "suspend"):
        raise InvalidRequest(
            "action of accounts_per_key must be off or notify: a key's accounts belong to many people", field="action"
        )
    after = body.model_dump(exclude={"reason"})
    async with db.transaction() as tx:
        found = await queries.lock_rule(tx, rule)
        before = {name: found[name] for name in after}
        if before != after:
            await queries.update_rule(tx, rule, after)
            await admin.record(
                tx, "alert_rule.change", "alert_rule", rule, before=before, after=after, reason=body.reason
            )
    return RuleReply(rule=rule, **after)


async def _decide(
    alert_id: UUID,
    decision: Decision,
    body: DecisionBody,
    admin: Admin,
    limits: Settings,
    db: Database,
    billing: BillingService,
) -> AlertReply:
    account_ids, reason = (await _find(db, alert_id))["account_ids"], body.reason
    async with db.read() as session:
        for user in await user_queries.list_users_by_id(session, account_ids):
            require_anonymous(reason, user)
    async with db.transaction() as tx, counted(tx, admin, limits):
        await _require_unchanged(tx, alert_id, body)
        before, changed = await decide(tx, billing, alert_id, decision, admin.caller.email, admin.now)
        after = await queries.lock_alert(tx, alert_id)
        assert after is not None
        environment: Environment = after["environment"]
        if after["decided_at"] != before["decided_at"]:
            names = ("status", "stopped")
            await admin.record(
                tx,
                f"alert.{decision}",
                "alert",
                alert_id,
                environment=environment,
                before={name: before[name] for name in names},
                after={**{name: after[name] for name in names}, "accounts": len(changed)},
                reason=reason,
            )
        for account_id in changed:  # one entry per account, for its own history
            stopped = after["stopped"]
            new_status = {"status": "active"}
            if stopped is not None:
                new_status = {"status": "suspended", "status_reason": reason_of(stopped, alert_id)}
            await admin.record(
                tx,
                "account.reopen" if stopped is None else "account.suspend",
                "account",
                account_id,
                environment=environment,
                after=new_status,
                reason=reason,
            )
    return await _reply(db, alert_id)


async def _require_unchanged(tx: Session, alert_id: UUID, body: DecisionBody) -> None:
    """Lock the alert. Raise AlertNotFound or ChangedMeanwhile."""
    alert = await queries.lock_alert(tx, alert_id)
    if alert is None:
        raise AlertNotFound
    if body.seen_status is None or (alert["status"], alert["stopped"]) == (body.seen_status, body.seen_stopped):
        return
    if alert["status"] == "open" and alert["reopened_at"] is not None:
        detail, by, at = "Later accounts reopened the alert", "The rule", alert["reopened_at"]
    else:
        words = {"open": "was reopened", "dismissed": "was dismissed", "acted": "was acted on"}
        last = await find_last_change(tx, "alert", alert_id, *DECISIONS)
        detail, by, at = f"The alert {words[alert['status']]}", last["changed_by"], last["changed_at"]
    current = {name: alert[name] for name in ("status", "stopped")}
    raise ChangedMeanwhile(detail, current=current, changed_by=by, changed_at=at)


async def _reply(db: Database, alert_id: UUID) -> AlertReply:
    """Return the alert's wire form. Raise AlertNotFound."""
    row = await _find(db, alert_id)
    async with db.read() as session:
        [reply] = await _replies(session, [row])
    return reply


async def _replies(session: Session, rows: Sequence[queries.Row]) -> list[AlertReply]:
    """Return alerts with people, cards and reasons, by one statement for each, however many alerts there are."""
    people = await find_people(session, {account_id for row in rows for account_id in row["account_ids"]})
    cards = await find_cards(session, [row for row in rows if row["rule"] == "purchases_per_card"])
    reasons = await find_last_reasons(session, "alert", [row["alert_id"] for row in rows], DECISIONS)
    unknown = {"card_brand": None, "card_last4": None}
    return [
        AlertReply(
            **row,
            **cards.get(row["alert_id"], unknown),
            people=[AlertPerson(**people[account_id]) for account_id in row["account_ids"] if account_id in people],
            reason=reasons.get(str(row["alert_id"])) if row["decided_at"] is not None else None,
        )
        for row in rows
    ]


async def _find(db: Database, alert_id: UUID) -> queries.Row:
    """Return the alert's row. Raise AlertNotFound."""
    async with db.read() as session:
        row = await queries.find_alert(session, alert_id)
    if row is None:
        raise AlertNotFound
    return row
