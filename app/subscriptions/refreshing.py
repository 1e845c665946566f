"""Refreshing: reads what the provider knows about a subscription, and settles its account by it.

Events state the same sooner. A refresh finds the rest: refunds that overtook their payment, lost
events, and the state of a yearly subscription at the start of each month.
"""

import contextlib
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.accounts.service import AccountService
from app.auth.caller import Environment
from app.db import Database
from app.payments.customers import Customers
from app.payments.errors import PaymentNotFound, PaymentProviderError, PaymentsNotConfigured, RefundRefused
from app.payments.facts import Provider
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_subscriptions import StripeSubscriptions
from app.subscriptions import queries
from app.subscriptions.books import load
from app.subscriptions.giving import missing_grants
from app.subscriptions.queries import Row
from app.subscriptions.settlement import CHECKED_EVERY, Settlement
from app.subscriptions.state import Invoice

READ_BACK = timedelta(days=400)
"""Invoices that are older are not read again."""
ORDER_STUCK_AFTER = timedelta(minutes=10)
PAGES_OPEN_FOR = timedelta(hours=25)
"""Stripe's pages are open for 24 hours."""
AT_ONCE = 200
RETRIED_AFTER = timedelta(minutes=5)
"""A subscription that could not be refreshed waits so long, so that it does not keep others from their turn."""
log = structlog.get_logger()


class Refresher:
    """One per process. Its methods open their own transactions, and call the provider outside of them."""

    def __init__(
        self,
        db: Database,
        accounts: AccountService,
        gateway: StripeGateway,
        settlement: Settlement,
        *,
        refunds_closed: bool,
    ) -> None:
        self._db = db
        self._accounts = accounts
        self._gateway = gateway
        self._provider: Provider = gateway.provider
        self._settlement = settlement
        self._stripe = StripeSubscriptions(gateway)
        self._customers = Customers(db, gateway)
        self._refunds_closed = refunds_closed

    async def refresh(self, environment: Environment, account_id: UUID, subscription_id: str, now: datetime) -> None:
        """Read a subscription from the provider and settle the account by it. Ends it if the account is closed.

        Raises UpgradeInProgress, PaymentProviderError. A subscription that the provider lacks stays as it is.
        """
        await self._settlement.require_finished_upgrade()
        try:
            facts = await self._stripe.all_about(environment, subscription_id, since=now - READ_BACK, at=now)
        except PaymentNotFound:
            log.error("subscription_of_another_account", subscription_id=subscription_id)
            await self._look_later(account_id, subscription_id, now + CHECKED_EVERY)
            return
        await self._settlement.apply(self._db, environment, account_id, facts, now)
        if (await self._accounts.state(account_id))["status"] == "closed":
            await self.end_of_closed(environment, account_id, now)

    # --- the worker ---

    async def look_at_due(self, now: datetime) -> int:
        """Refresh the subscriptions for which something is to be done. Return their number.

        While the provider does not answer, the account is settled from its books.
        """
        async with self._db.read() as db:
            due = await queries.list_due(db, now, AT_ONCE)
        for row in due:
            account_id, key = row["account_id"], row["subscription_id"]
            try:
                if await self._is_refreshed(row["environment"], account_id, key, now):
                    continue
            except Exception:
                log.exception("subscription_not_settled", subscription_id=key)
            await self._look_later(account_id, key, now + RETRIED_AFTER)
        return len(due)

    async def _is_refreshed(self, environment: Environment, account_id: UUID, key: str, now: datetime) -> bool:
        """Refresh a subscription. If the provider does not answer, settle from the books and return False."""
        try:
            await self.refresh(environment, account_id, key, now)
        except (PaymentProviderError, PaymentsNotConfigured) as error:
            log.warning("subscription_not_refreshed", subscription_id=key, why=error.code)
            await self._settlement.apply(self._db, environment, account_id, [], now)
            return False
        return True

    async def _look_later(self, account_id: UUID, key: str, due_at: datetime) -> None:
        async with self._db.transaction() as tx:
            await queries.update_due_at(tx, account_id, self._provider, key, due_at)

    async def look_at_orders(self, now: datetime) -> int:
        """Find what became of orders whose events were lost. Return the number of those that are closed now."""
        closed = 0
        for environment in await self._gateway.environments():
            async with self._db.read() as db:
                orders = await queries.list_open_orders(db, environment, now - ORDER_STUCK_AFTER, AT_ONCE)
            for order in orders:
                try:
                    closed += await self.look_at_order(order, now)
                except PaymentProviderError as error:
                    log.warning("order_not_refreshed", order_id=str(order["order_id"]), why=error.code)
        return closed

    async def look_at_order(self, order: Row, now: datetime) -> bool:
        """Find what became of an open order. Return whether it is closed now. Raises PaymentProviderError."""
        environment, account_id, order_id = order["environment"], order["account_id"], order["order_id"]
        key: str | None = order["subscription_id"]
        is_over = now - order["created_at"] > PAGES_OPEN_FOR
        if key is None and order["session_id"] is not None:
            try:
                page = await self._stripe.page(environment, order["session_id"])
            except PaymentNotFound:
                is_over = True  # the keys now belong to another account of the provider
            else:
                key, is_over = page.subscription_id, is_over or page.is_expired
        if key is not None:
            await self.refresh(environment, account_id, key, now)
            async with self._db.read() as db:
                found = await queries.find_order(db, account_id, order_id)
            if found is not None and found["status"] == "closed":
                return True
        if is_over:
            await self.close_order(account_id, order_id, now)
        return bool(is_over)

    async def close_order(self, account_id: UUID, order_id: UUID, now: datetime) -> None:
        async with self._db.transaction() as tx:
            await queries.update_order(tx, account_id, order_id, now, status="closed")

    # --- closed accounts ---

    async def account_changed(self, account_id: UUID, now: datetime) -> None:
        """End the subscriptions of an account that was closed, or settle one that was reopened.

        The customer of an erased person is deleted at the provider. Idempotent. Raises PaymentProviderError.
        """
        state = await self._accounts.state(account_id)
        environment: Environment = state["environment"]
        async with self._db.read() as db:
            subscriber = await queries.find_subscriber(db, account_id)
            has_any = subscriber is not None or await queries.find_open_order(db, account_id) is not None
        if has_any and state["status"] == "closed":
            await self.end_of_closed(environment, account_id, now)
        elif has_any:
            await self._settlement.apply(self._db, environment, account_id, [], now)
        if state["erased_at"] is not None:
            await self._customers.delete(environment, account_id)  # also of a person who only saved a card

    async def end_of_closed(self, environment: Environment, account_id: UUID, now: datetime) -> None:
        """End all subscriptions of a closed account at the provider, and give back what arrived after its closing."""
        currency = (await self._accounts.state(account_id))["currency"]
        async with self._db.read() as db:
            order = await queries.find_open_order(db, account_id)
            book = await load(db, account_id, environment)
        if order is not None:
            if order["session_id"] is not None:
                with contextlib.suppress(PaymentNotFound):  # the keys now belong to another account of the provider
                    await self._stripe.close_page(environment, order["session_id"])
            await self.close_order(account_id, order["order_id"], now)
        for key, known in book.subscriptions.items():
            facts = None if known.is_ended else await self._stripe.end(environment, key, at=now)
            if facts is not None:
                await self._settlement.apply(self._db, environment, account_id, [facts], now)
        if not self._refunds_closed:
            return
        given = {row["invoice_id"] for row in book.grants}
        for one in book.subscribed():
            waiting = [due for due in missing_grants(book, one, now) if due.grant.currency in (None, currency)]
            for invoice_id in sorted({due.invoice_id for due in waiting} - given):
                await self._give_back(environment, book.invoices[invoice_id], now)

    async def _give_back(self, environment: Environment, invoice: Invoice, now: datetime) -> None:
        """Refund the payments of an invoice whose grants were not given, because its account was closed."""
        for payment_id in invoice.facts.payment_ids:
            key = f"closed {invoice.facts.invoice_id} {payment_id}"
            try:
                await self._gateway.refund(environment, payment_id, None, idempotency_key=key, request_key=key, at=now)
            except RefundRefused as error:
                log.error("refund_of_closed_account_refused", invoice_id=invoice.facts.invoice_id, reason=error.detail)
