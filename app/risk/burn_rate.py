"""Alerts about what the burn-rate brake has paused (app/ledger/brake.py). The worker raises them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.db import Database, new_id
from app.ledger.money import minor_ceil
from app.ledger.pools import CREDIT
from app.risk import queries

BURN_RATE = "burn_rate"
SINCE = "0040"
"""Versions before this revision cannot show such an alert (ADR 26)."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finding:
    """A pause by the brake. Amounts are in `unit`: credits, or nanos of a currency."""

    environment: Environment
    account_id: UUID
    subject: str
    unit: str
    observed: int
    most: int

    def shown(self, amount: int) -> int:
        """Return an amount as alerts show it: credits, or minor units of the currency, rounded up."""
        return amount if self.unit == CREDIT else minor_ceil(amount, self.unit)


async def report(db: Database, finding: Finding, now: datetime) -> None:
    """Raise the day's alert about the subject. If there is one, it opens again."""
    subject = finding.subject if finding.unit == CREDIT else f"{finding.subject} ({finding.unit})"
    named = {"environment": finding.environment, "rule": BURN_RATE, "subject": f"{finding.account_id} {subject}"}
    observed = finding.shown(finding.observed)
    row: dict[str, Any] = {
        **named,
        "alert_id": new_id(),
        "day": now.date(),
        "observed": observed,
        "usual": None,
        "threshold": finding.shown(finding.most),
        "window_h": 1,
        "account_ids": [finding.account_id],
        "created_at": now,
        "last_seen_at": now,
    }
    async with db.transaction() as tx:
        if await queries.insert_alert(tx, row):
            log.warning("burn_rate_exceeded", alert_id=str(row["alert_id"]), observed=observed)
            return
        alert = await queries.lock_latest_alert(tx, named)
        assert alert is not None
        changes = {"observed": max(alert["observed"], observed), "last_seen_at": now}
        if alert["status"] != "open":
            changes |= {"status": "open", "reopened_at": now}
        await queries.update_alert(tx, alert["alert_id"], changes)
        log.warning("burn_rate_exceeded", alert_id=str(alert["alert_id"]), observed=observed)
