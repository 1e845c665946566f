"""Gate for an interaction: check before it, charge after it, charge nothing on an exception."""

import logging
from dataclasses import dataclass

from ciris_billing._exchange import Flow
from ciris_billing._operations import Operations
from ciris_billing.errors import AccountClosed, AccountSuspended, BillingError, InsufficientCredits, Unavailable
from ciris_billing.keys import charge_key
from ciris_billing.models import (
    MINOR_PER_CREDIT,
    Charge,
    CheckContext,
    CreditStatus,
    Metadata,
    User,
    UserFields,
    credits_for,
)

log = logging.getLogger("ciris_billing")


class NoCredit(InsufficientCredits):
    """The user has not enough credits and has to buy some. `credit_status` contains the remaining credits and, if there
    are none, the price of a purchase."""

    def __init__(self, status: CreditStatus, *, required_minor: int) -> None:
        balance, required = status.uses_remaining * MINOR_PER_CREDIT, credits_for(required_minor) * MINOR_PER_CREDIT
        reason = status.reason or f"Insufficient credits. Balance: {balance}, Required: {required}"
        super().__init__(
            reason, balance=balance, required=required, shortfall=max(0, required - balance), max_affordable=balance
        )
        self.credit_status = status


@dataclass
class Passage:
    """One interaction that has passed the gate.

    Set `amount_minor` inside the block if the price is only known then. `charge` is set after the block; it stays None
    if the service was unavailable and the policy is `fail_open`."""

    status: CreditStatus
    amount_minor: int
    charge: Charge | None = None


class Gate:
    """The steps before and after an interaction."""

    def __init__(
        self,
        operations: Operations,
        user: User | None,
        *,
        interaction_id: str,
        amount_minor: int,
        description: str | None,
        metadata: Metadata | None,
        user_fields: UserFields,
    ) -> None:
        self._operations = operations
        self._user = user
        self._user_fields = user_fields
        self._key = charge_key(interaction_id)
        self._amount_minor = amount_minor
        self._description = description
        self._metadata = metadata

    def enter(self) -> Flow[Passage]:
        """Check the user's credit. Raises the error of `refusal`, and Unavailable with the policy `fail_closed`."""
        metadata = self._metadata or {}
        context: CheckContext = {}
        for name in ("agent_id", "channel_id", "request_id"):
            if name in metadata:
                context[name] = metadata[name]
        status = yield from self._operations.check_credit(self._user, context=context or None, **self._user_fields)
        error = refusal(status, self._amount_minor)
        if error is not None and not (isinstance(error, NoCredit) and (yield from self._is_paid_for())):
            raise error
        return Passage(status, self._amount_minor)

    def _is_paid_for(self) -> Flow[bool]:
        """Whether this interaction is already charged: a retry after a lost answer."""
        try:
            return (yield from self._operations.was_charged(self._user, idempotency_key=self._key, **self._user_fields))
        except BillingError:
            return False

    def leave(self, passage: Passage) -> Flow[None]:
        """Charge the interaction. Raises the errors of `charge`; with the policy `fail_open`, Unavailable is only
        logged."""
        try:
            passage.charge = yield from self._operations.charge(
                self._user,
                idempotency_key=self._key,
                amount_minor=passage.amount_minor,
                description=self._description,
                metadata=self._metadata,
                **self._user_fields,
            )
        except Unavailable as error:
            if self._operations.policy == "fail_closed":
                raise
            fields = {"idempotency_key": self._key, "amount_minor": passage.amount_minor, "code": error.code}
            log.error(
                "billing charge not delivered: %s",
                error.code,
                extra={f"billing_{name}": value for name, value in fields.items()},
            )


def refusal(status: CreditStatus, amount_minor: int) -> BillingError | None:
    """Return why an interaction of this price must not start; None if it can."""
    if status.covers(amount_minor):
        return None
    if not status.has_credit and not status.purchase_required and status.reason is not None:
        if status.reason.startswith("Account suspended"):
            return AccountSuspended(status.reason)
        if status.reason.startswith("Account closed"):
            return AccountClosed(status.reason)
    return NoCredit(status, required_minor=amount_minor)
