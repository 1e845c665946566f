"""A customer of the local Stripe who lives one of the lives, on a test clock."""

from datetime import datetime, timedelta
from uuid import UUID

from app.demo.stripe import billing_time, customers, invoices, payment_methods, subscription_changes, subscriptions
from app.demo.stripe.account import Account
from app.demo.stripe.objects import Object, at
from tests.simulation.lives import DAY, HOUR, MONTHS, START, Life, month

VISA, DECLINED = "pm_card_visa", "pm_card_chargeCustomerFail"
Moment = datetime | timedelta


class Customer:
    """`account` is the customer's part of Stripe, `account_id` that of the service."""

    def __init__(self, account: Account, account_id: UUID, life: Life) -> None:
        self.account, self.account_id, self.life = account, account_id, life
        self._clock = billing_time.add_clock(account, int(START.timestamp()), "life")
        form = {"test_clock": self._clock["id"], "metadata": {"account_id": str(account_id)}}
        self._customer = customers.create(account, form)
        self._pay_with(VISA)
        self._subscription = self._subscribe(life.price)

    @property
    def subscription_id(self) -> str:
        return str(self._subscription["id"])

    def live(self, number: int) -> None:
        """Live one month: from an hour before its start to an hour before its end."""
        start, end = month(number)
        event = self.life.events.get(number)
        if event == "paid late":
            self._pay_with(DECLINED)
            self._move(start + DAY)
            self._pay_with(VISA)
            self._move(start + 4 * DAY)  # Stripe tries again after three days
        self._move(start + 2 * HOUR)
        if event in ("refunded", "refund fails"):
            self._give_back(start, fails=event == "refund fails")
        elif event in ("dispute lost", "dispute won"):
            self._dispute(start, is_won=event == "dispute won")
        elif event == "upgraded":
            self._move(start + (end - start) / 2)
            self._change("price_pro", proration_behavior="always_invoice", payment_behavior="error_if_incomplete")
        elif event == "lowered":
            self._move(start + 5 * DAY)
            self._change("price_standard", proration_behavior="none")
        elif event == "ended":
            self._move(start + 11 * DAY)
            subscriptions.cancel(self.account, self._subscription, {})
        elif event == "returned":
            self._subscription = self._subscribe("price_pro")
        self._move(end - HOUR)
        if number == MONTHS - 1:
            assert self._subscription["status"] in ("active", "canceled")

    def _move(self, until: datetime) -> None:
        until_s = int(until.timestamp())
        if until_s > self._clock["frozen_time"]:
            billing_time.move(self.account, self._clock, until_s)

    def _pay_with(self, card: str) -> None:
        method = payment_methods.attach(self.account, payment_methods.named(self.account, card), self._customer["id"])
        customers.update(self.account, self._customer, {"invoice_settings": {"default_payment_method": method["id"]}})

    def _subscribe(self, price: str) -> Object:
        form = {
            "customer": self._customer["id"],
            "items": {"0": {"price": price}},
            "metadata": {"account_id": str(self.account_id)},
        }
        return subscriptions.create(self.account, form)

    def _change(self, price: str, **how: str) -> None:
        [item] = self._subscription["items"]["data"]
        form = {"items": {"0": {"id": item["id"], "price": price}}, **how}
        subscription_changes.update(self.account, self._subscription, form)

    def _paid(self) -> Object:
        """Return the payment of the latest invoice."""
        invoice = self.account.find("invoice", self._subscription["latest_invoice"])
        intent = invoices.intent_of(self.account, invoice)
        assert intent is not None
        return intent

    def _give_back(self, start: datetime, *, fails: bool) -> None:
        self._move(start + 2 * DAY)
        with at(self._clock["frozen_time"]):
            refund = self.account.refund(self.account.charge_of(self._paid()["id"]), None, None)
        self._move(start + 3 * DAY)
        if fails:
            with at(self._clock["frozen_time"]):
                self.account.settle_refund(refund, "failed")

    def _dispute(self, start: datetime, *, is_won: bool) -> None:
        self._move(start + 3 * DAY)
        with at(self._clock["frozen_time"]):
            dispute = self.account.open_dispute(self._paid())
        self._move(start + 12 * DAY)
        with at(self._clock["frozen_time"]):
            self.account.close_dispute(dispute, "won" if is_won else "lost")
