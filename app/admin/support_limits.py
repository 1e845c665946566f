"""Support limits: bounds on what the role `support` may do, counted in the audit log under the admin's lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from app.admin.audit import queries
from app.admin.audit.log import Admin
from app.auth.admins.admins import lock_admin
from app.auth.errors import AdminForbidden
from app.db import Session
from app.ledger.money import NANOS_PER_UNIT
from app.settings import Settings

DAY = timedelta(days=1)


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Limits = Annotated[Settings, Depends(_settings)]


def require_small(credits: int, admin: Admin, limits: Settings) -> None:
    """Raise AdminForbidden for a correction that is too large for the role."""
    if admin.caller.role == "support" and abs(credits) > limits.admin_support_credit_limit:
        raise AdminForbidden("admin", f"more than {limits.admin_support_credit_limit} credits at once")


def require_small_money(nanos: int, currency: str, admin: Admin, limits: Settings) -> None:
    """Raise AdminForbidden for an amount of money that is too large for the role."""
    most = limits.admin_support_money_limit
    if admin.caller.role == "support" and nanos > most * NANOS_PER_UNIT:
        raise AdminForbidden("admin", f"more than {most} {currency} at once")


@asynccontextmanager
async def counted(tx: Session, admin: Admin, limits: Settings) -> AsyncIterator[None]:
    """Wrap the admin's changes, with their audit rows, and bound their sum. Raise AdminForbidden."""
    if admin.caller.role != "support":
        yield
        return
    admin_id, since = admin.caller.admin_id, admin.now - DAY
    await lock_admin(tx, admin_id)
    before = await queries.count_done(tx, admin_id, since)
    yield
    after = await queries.count_done(tx, admin_id, since)
    if after.credits > max(before.credits, limits.admin_support_daily_credit_limit):
        raise AdminForbidden("admin", f"more than {limits.admin_support_daily_credit_limit} credits in 24 hours")
    if after.suspensions > max(before.suspensions, limits.admin_support_daily_suspension_limit):
        most = limits.admin_support_daily_suspension_limit
        raise AdminForbidden("admin", f"suspending more than {most} accounts in 24 hours")
    for currency, amount in after.money.items():
        if amount > max(before.money.get(currency, 0), limits.admin_support_daily_money_limit):
            most = limits.admin_support_daily_money_limit
            raise AdminForbidden("admin", f"more than {most} {currency} in 24 hours")
