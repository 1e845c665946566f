"""Operations for many charges, and for finding one after a lost answer."""

from collections.abc import Sequence
from typing import Unpack

from ciris_billing._calls import CallRunner, identity, one_key
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.charges import ChargeOutcome, NewCharge, outcomes_in
from ciris_billing.errors import NotFound
from ciris_billing.keys import charge_key
from ciris_billing.models import Charge, User, UserFields, request_fields

BY_KEY = "/v1/billing/charges/by-key"


class ChargeOperations(CallRunner):
    """Charge in batches, and find a charge by its key."""

    def charge_batch(self, charges: Sequence[NewCharge]) -> Flow[list[ChargeOutcome]]:
        """Charge up to 1,000 interactions in one request. Return the outcome of each, in the same order. A refused
        charge raises nothing and does not affect the others: look at `is_charged` and `error`. Needs an API key.

        After an error, send the same charges again: those that were recorded cost nothing and have `replayed` set."""
        bodies = [charge.body() for charge in charges]
        keys = [body["idempotency_key"] for body in bodies]
        call = Call(
            "charge_batch",
            "POST",
            "/v1/billing/charges/batch",
            lambda _, fields: outcomes_in(fields, keys),
            {"charges": bodies},
        )
        try:
            return (yield from self.exchange.run(call))
        finally:
            for body in bodies:
                self.cache.forget(body)

    def find_charge(
        self,
        user: User | None = None,
        *,
        interaction_id: str | None = None,
        idempotency_key: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[Charge | None]:
        """Return the charge of an interaction, None if there is none. Pass the same `interaction_id` or
        `idempotency_key` as for its charge. Charges nothing. Keys are looked up as in `was_charged`."""
        key = one_key(idempotency_key, interaction_id, charge_key)
        query = {**identity(request_fields(user, user_fields)), "idempotency_key": key}
        try:
            return (yield from self.exchange.run(Call("find_charge", "GET", BY_KEY, as_model(Charge), query=query)))
        except NotFound as error:
            if error.code != "charge_not_found":
                raise
            return None
