"""Operations for purchases: packs, currencies, payments and their states."""

from collections.abc import Iterator
from typing import Unpack

from ciris_billing._calls import CallRunner, identity, quoted
from ciris_billing._exchange import Call, Flow, Pause, as_model
from ciris_billing.errors import PurchaseFailed, PurchasePending, Unavailable
from ciris_billing.models import (
    Currencies,
    Pack,
    Packs,
    Purchase,
    PurchaseStatus,
    User,
    UserFields,
    request_fields,
    without_none,
)

FIRST_POLL_S, LONGEST_POLL_S = 0.5, 5.0


class PurchaseOperations(CallRunner):
    """Sell credits and follow their payment."""

    def create_purchase(
        self,
        user: User | None = None,
        *,
        pack: str | None = None,
        return_url: str | None = None,
        idempotency_key: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[Purchase]:
        """Create a purchase. Pass its `client_secret` and `publishable_key` to Stripe.js in the buyer's browser.

        While an equal purchase is open, it is returned instead of a new one. Raises ServiceUnavailable with the code
        `payments_not_configured` if the service has no payment provider."""
        body = {
            **request_fields(user, user_fields),
            "pack": pack,
            "return_url": return_url,
            "idempotency_key": idempotency_key,
        }
        call = Call("create_purchase", "POST", "/v1/billing/purchases", as_model(Purchase), without_none(body))
        return self.exchange.run(call)

    def packs(self, user: User | None = None, **user_fields: Unpack[UserFields]) -> Flow[list[Pack]]:
        """Return the packs that a user can buy, the default one first. With an API key and without a user: all
        packs."""
        query = identity(request_fields(user, user_fields)) or None
        call = Call("packs", "GET", "/v1/billing/packs", as_model(Packs), query=query)
        return (yield from self.exchange.run(call)).packs

    def currencies(self) -> Flow[Currencies]:
        """Return the currencies that Stripe supports, with their digits for formatting minor units."""
        return self.exchange.run(Call("currencies", "GET", "/v1/billing/currencies", as_model(Currencies)))

    def purchase_status(
        self, payment_id: str, user: User | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[PurchaseStatus]:
        """Return the state of a purchase. With a user, raises NotFound for another user's payment: pass one whenever
        the payment id comes from a browser."""
        path = f"/v1/billing/purchases/{quoted(payment_id)}/status"
        query = identity(request_fields(user, user_fields)) or None
        return self.exchange.run(Call("purchase_status", "GET", path, as_model(PurchaseStatus), query=query))

    def wait_for_purchase(
        self, payment_id: str, user: User | None = None, *, timeout_s: float = 120.0, **user_fields: Unpack[UserFields]
    ) -> Flow[PurchaseStatus]:
        """Wait until the credits are booked, polling at increasing intervals, also through an outage of the service.

        Raises PurchaseFailed (declined or canceled), PurchasePending (`timeout_s` has passed), NotFound."""
        give_up_at = self.exchange.clock() + timeout_s
        last = "unknown"
        for wait in _polls():
            try:
                status = yield from self.purchase_status(payment_id, user, **user_fields)
            except Unavailable:
                if self.exchange.clock() >= give_up_at:
                    raise
            else:
                last = status.status
                if last == "succeeded":
                    self.cache.forget(request_fields(user, user_fields))
                    return status
                if status.is_final:
                    raise PurchaseFailed(last)
            left = give_up_at - self.exchange.clock()
            if left <= 0:
                break
            yield Pause(min(wait, left))
        raise PurchasePending(last)


def _polls() -> Iterator[float]:
    wait = FIRST_POLL_S
    while True:
        yield wait
        wait = min(LONGEST_POLL_S, wait * 1.5)
