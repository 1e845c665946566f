"""Giving: the grants of paid periods, once each, and taking them back with refunds and disputes.

Both run under the account's lock. The key of `period_grants` makes a second grant impossible.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from app.auth.caller import Actor
from app.billing.posting import give_credits
from app.db import Session
from app.ledger.ended_grants import find_expired_rest
from app.ledger.errors import BalanceLimitExceeded, TooManyGrants
from app.ledger.locked_account import Kind, LockedAccount, lock_account, write
from app.ledger.pools import CREDIT
from app.payments.facts import Provider, TakenBack, taken_back
from app.plans.rollover import renew
from app.subscriptions import queries
from app.subscriptions.books import Book
from app.subscriptions.due_grants import CHANGE, DueGrant, due_grants
from app.subscriptions.queries import Row
from app.subscriptions.state import Subscribed
from app.wallet.money_credits import give_money
from app.wallet.service import NewGrant, WalletService

log = structlog.get_logger()


def missing_grants(book: Book, subscribed: Subscribed, now: datetime) -> list[DueGrant]:
    """Return the due grants of a subscription that its account does not have. Some may be in another currency."""
    given = {(row["period_start"], row["kind"]) for row in book.grants}
    return [due for due in due_grants(subscribed, now=now) if due.key not in given]


@dataclass(frozen=True, slots=True)
class Giver:
    wallet: WalletService

    async def give_due(self, tx: Session, book: Book, subscribed: Subscribed, now: datetime) -> bool:
        """Give what is due and not given yet. Return False if some of it has to wait: there is no room for it."""
        complete = True
        for due in missing_grants(book, subscribed, now):
            account = await lock_account(tx, book.account_id)
            if account.status == "closed":
                return True  # the reopening settles again
            if due.grant.currency not in (None, account.currency):
                continue
            try:
                book.grants.append(await self._give(tx, account, book, subscribed, due, now))
            except (BalanceLimitExceeded, TooManyGrants) as error:
                log.warning("grant_waits", account_id=str(book.account_id), why=error.code)
                complete = False
        return complete

    async def _give(
        self, tx: Session, account: LockedAccount, book: Book, subscribed: Subscribed, due: DueGrant, now: datetime
    ) -> Row:
        carried = await self._carried(tx, account, book, subscribed, due, now)
        facts, expires_at, is_money = subscribed.facts, due.expires_at(), due.grant.unit == "money"
        amount, grant_id = due.amount + carried, None
        if expires_at is None or expires_at > now:
            new = NewGrant(
                amount,
                money=is_money,
                category="subscription",
                source=due.plan_name,
                expires_at=expires_at,
                is_paid=True,
            )
            actor = Actor(facts.provider, facts.provider)
            grant_id = (await self.wallet.give_grant_in(tx, book.account_id, new, actor=actor, now=now)).grant_id
        row = {
            "account_id": book.account_id,
            "period_start": due.period.start,
            "kind": due.kind,
            "period_end": due.period.end,
            "provider": facts.provider,
            "subscription_id": facts.subscription_id,
            "invoice_id": due.invoice_id,
            "plan_name": due.plan_name,
            "unit": account.currency if is_money else CREDIT,
            "amount": amount,
            "carried": carried,
            "grant_id": grant_id,
            "refunded": 0,
            "disputed": 0,
            "created_at": now,
        }
        await queries.insert_period_grant(tx, row)
        return row

    async def _carried(
        self, tx: Session, account: LockedAccount, book: Book, subscribed: Subscribed, due: DueGrant, now: datetime
    ) -> int:
        """Return how much of the rest of the period before rolls over into this one."""
        if due.grant.rollover == "none" or CHANGE in due.kind:
            return 0
        same = [row for row in book.grants if row["subscription_id"] == subscribed.facts.subscription_id]
        of_kind = [row for row in same if row["kind"] == due.kind]
        last = max(of_kind, key=lambda row: row["period_start"], default=None)
        if last is None or last["period_end"] > due.period.start:
            return 0  # a later period has taken the rest, or the rest can still be spent
        parts = [row for row in same if row is last or _is_upgrade_of(row, last)]
        account.expire_lots(now)
        await write(tx, [account], now)
        rest = sum(row["amount"] for row in parts if row["grant_id"] is None)
        rest += await find_expired_rest(tx, book.account_id, [row["grant_id"] for row in parts if row["grant_id"]])
        return renew(rest, due.amount, due.grant.most_carried).carried


def _is_upgrade_of(row: Row, base: Row) -> bool:
    is_upgrade = str(row["kind"]).startswith(f"{base['kind']}{CHANGE}")
    return is_upgrade and bool(row["period_end"] == base["period_end"])


async def take_back(tx: Session, book: Book, now: datetime) -> None:
    """Bring what refunds and disputes have taken back to where it belongs, for every grant of a paid period.

    Begins with the rest of the grant, then takes plain balance, and the spent part becomes debt. An expired rest
    is not taken again. Returned amounts are plain balance, which does not expire.
    """
    for row in book.grants:
        invoice = book.invoices.get(row["invoice_id"])
        if invoice is None or row["grant_id"] is None:
            continue
        paid = invoice.facts.amount_paid_minor
        target = TakenBack(0, 0)
        if paid > 0:
            target = taken_back(
                sold=row["amount"] - row["carried"],
                amount_minor=paid,
                refunded_minor=invoice.refunded_minor,
                withdrawn_minor=invoice.withdrawn_minor,
            )
        if (row["refunded"], row["disputed"]) != (target.refunded, target.disputed):
            await _move(tx, book, row, target, now)


async def _move(tx: Session, book: Book, row: Row, target: TakenBack, now: datetime) -> None:
    account = await lock_account(tx, book.account_id)
    account.expire_lots(now)
    await write(tx, [account], now)
    expired = await find_expired_rest(tx, book.account_id, [row["grant_id"]])
    refunded, disputed = row["refunded"], row["disputed"]
    returned = (
        (refunded - target.refunded, Kind.REFUND_REVERSAL),
        (disputed - target.disputed, Kind.DISPUTE_REINSTATEMENT),
    )
    for amount, kind in returned:  # first, so that no debt is recorded for a moment
        if amount > 0:
            await _post(tx, account, row, amount, kind, now)
    refunded, disputed = min(refunded, target.refunded), min(disputed, target.disputed)
    left = max(0, row["amount"] - expired - refunded - disputed)
    more_refunded = min(target.refunded - refunded, left)
    more_disputed = min(target.disputed - disputed, left - more_refunded)
    for amount, kind in ((more_refunded, Kind.REFUND_REVERSAL), (more_disputed, Kind.DISPUTE_REVERSAL)):
        if amount > 0:
            await _post(tx, account, row, -amount, kind, now)
    await write(tx, [account], now)
    refunded, disputed = refunded + more_refunded, disputed + more_disputed
    await queries.update_taken_back(tx, book.account_id, row["period_start"], row["kind"], refunded, disputed)
    book.grants = [{**one, "refunded": refunded, "disputed": disputed} if one is row else one for one in book.grants]


async def _post(tx: Session, account: LockedAccount, row: Row, amount: int, kind: Kind, now: datetime) -> None:
    """Give an amount of the grant's unit, or take it where the number is negative."""
    provider: Provider = row["provider"]
    grant_id: UUID = row["grant_id"]
    actor = Actor(provider, provider)
    description = f"Plan {row['plan_name']}, {row['period_start']:%Y-%m-%d}"
    if row["unit"] == CREDIT:
        await give_credits(
            tx,
            account,
            amount,
            kind.value,
            actor=actor,
            now=now,
            description=description,
            external_transaction_id=row["invoice_id"],
            own_grant=grant_id if amount < 0 else None,
        )
        return
    await give_money(
        tx,
        account,
        amount,
        kind,
        actor=actor,
        now=now,
        description=description,
        external_transaction_id=row["invoice_id"],
        own_grant=grant_id if amount < 0 else None,
    )
