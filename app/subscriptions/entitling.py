"""Entitling: the account's plan and the plan's default limits follow the subscription that is in force.

The limits of a plan are the operator's: users set lower ones beside them. A limit that an admin has set for the same
spending, or has changed, is the admin's, and stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.accounts.service import AccountService
from app.db import Session
from app.ledger.limits import Limit
from app.ledger.locked_account import LockedAccount, lock_account
from app.limits.service import UNITS, LimitService, NewLimit, Place
from app.plans.document import DefaultLimit
from app.subscriptions import queries
from app.subscriptions.books import Book
from app.subscriptions.state import Terms, in_force


@dataclass(frozen=True, slots=True)
class Entitler:
    accounts: AccountService
    limits: LimitService
    grace: timedelta

    async def entitle(self, tx: Session, book: Book, now: datetime, *, keeps_terms: bool) -> None:
        """Set the account's plan, its terms and its limits, and store which subscription they are from.

        `keeps_terms`: no version runs that would leave the markup and the discount of earlier terms in place.
        """
        account = await lock_account(tx, book.account_id)
        known = book.subscriber
        entitled = in_force(book.subscribed(), self.grace, now)
        terms = None if entitled is None else entitled.plan_in_force(now)
        had_plan = known is not None and known["plan_name"] is not None
        before: str = known["plan_before"] if known is not None and had_plan else account.plan_name
        if terms is not None:
            await self.accounts.set_plan_in(tx, account, terms.plan.name, now, **(_kept(terms) if keeps_terms else {}))
        elif known is not None and had_plan and account.plan_name == known["plan_name"]:
            await self.accounts.set_plan_in(tx, account, before, now)
        price_id = None if entitled is None else entitled.price_in_force(now)
        row: dict[str, Any] = {
            "account_id": book.account_id,
            "plan_before": before,
            "plan_name": None if terms is None else terms.plan.name,
            "subscription_id": None if entitled is None else entitled.facts.subscription_id,
            "price_id": price_id,
            "limits": {} if known is None else known["limits"],
        }
        is_same = known is not None and all(known[name] == value for name, value in row.items())
        if is_same and (terms is not None or not row["limits"]):  # the limits of a plan that ended while closed remain
            return
        of_plan = () if terms is None else terms.plan.default_limits
        row["limits"] = await self._limit(tx, account, of_plan, row["limits"], now)
        book.subscriber = {**row, "updated_at": now}
        await queries.upsert_subscriber(tx, book.subscriber)

    async def _limit(
        self,
        tx: Session,
        account: LockedAccount,
        of_plan: Sequence[DefaultLimit],
        given: Mapping[str, int],
        now: datetime,
    ) -> dict[str, int]:
        """Replace the limits that a plan has given. Return the new ones: amounts by id."""
        if (not of_plan and not given) or account.status == "closed":
            return dict(given)
        present = {str(limit.limit_id): limit for limit in await self.limits.list_in(tx, account.account_id, now)}
        ours = {key for key, amount in given.items() if key in present and present[key].amount == amount}
        kept: dict[str, int] = {}
        for new in (made for one in of_plan if (made := _new_limit(one, account.currency)) is not None):
            same = next((limit for limit in present.values() if _is_same(limit, new, account.currency)), None)
            if same is not None and str(same.limit_id) not in ours:
                continue
            change = await self.limits.put_in(tx, account.account_id, new, "operator", now)
            change.report()
            kept[str(change.limit.limit_id)] = new.amount
        for key in sorted(ours - kept.keys()):
            await self.limits.remove_in(tx, Place(account.account_id, UUID(key)), now)
        return kept


def _kept(terms: Terms) -> dict[str, Decimal]:
    """Return the percentages of a subscriber's terms, which the account keeps while the terms are in force."""
    plan = terms.plan
    return {
        "markup_percent": Decimal(plan.markup_percent),
        "discount_percent": Decimal(plan.purchase_discount_percent),
    }


def _new_limit(limit: DefaultLimit, currency: str) -> NewLimit | None:
    """Return the limit to set. None: it is in another currency than the account."""
    if limit.unit not in UNITS and limit.unit != currency:
        return None
    return NewLimit(
        limit.scope, limit.scope_value or "", limit.window, UNITS.get(limit.unit), limit.units, limit.action
    )


def _is_same(limit: Limit, new: NewLimit, currency: str) -> bool:
    theirs = (limit.scope, limit.scope_value, limit.window, limit.unit, limit.action, limit.owner)
    return theirs == (new.scope, new.scope_value, new.window, new.unit or currency, new.action, "operator")
