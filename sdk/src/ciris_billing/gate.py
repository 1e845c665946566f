"""Gate for an interaction: check before it, charge after it, charge nothing on an exception."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciris_billing._exchange import Flow
from ciris_billing._operations import Operations
from ciris_billing.errors import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    InsufficientCredits,
    PaymentRequired,
    Unavailable,
)
from ciris_billing.holding import NamedWork
from ciris_billing.holds import Hold, HoldTerms
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
    request_fields,
    without_none,
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
    if the service was unavailable and the policy is `fail_open`, and in a gate that holds.

    `hold` is set in a gate that holds: open inside the block, for `report_hold` and `extend_hold`, and settled after
    it. It is None while the service was unavailable and the policy is `fail_open`."""

    status: CreditStatus
    amount_minor: int
    charge: Charge | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """An interaction that a gate charges."""

    interaction_id: str
    amount_minor: int
    description: str | None
    metadata: Metadata | None


class Gate:
    """The steps before and after an interaction."""

    def __init__(
        self, operations: Operations, user: User | None, interaction: Interaction, user_fields: UserFields
    ) -> None:
        self._operations = operations
        self._user = user
        self._user_fields = user_fields
        self._interaction_id = interaction.interaction_id
        self._key = charge_key(interaction.interaction_id)
        self._amount_minor = interaction.amount_minor
        self._description = interaction.description
        self._metadata = interaction.metadata

    def enter(self) -> Flow[Passage]:
        """Check the user's credit. Raises the error of `refusal`, and Unavailable with the policy `fail_closed`."""
        status = yield from self._check()
        error = refusal(status, self._amount_minor)
        if error is not None and not (isinstance(error, NoCredit) and (yield from self._is_paid_for())):
            raise error
        return Passage(status, self._amount_minor)

    def _check(self) -> Flow[CreditStatus]:
        metadata = self._metadata or {}
        context: CheckContext = {}
        for name in ("agent_id", "channel_id", "request_id"):
            if name in metadata:
                context[name] = metadata[name]
        return self._operations.check_credit(self._user, context=context or None, **self._user_fields)

    def _is_paid_for(self) -> Flow[bool]:
        """Whether this interaction is already charged: a retry after a lost answer."""
        try:
            return (yield from self._operations.was_charged(self._user, idempotency_key=self._key, **self._user_fields))
        except BillingError:
            return False

    def charge(self, passage: Passage) -> Flow[None]:
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
            self._log(error, passage)

    def _log(self, error: Exception, passage: Passage) -> None:
        code = error.code if isinstance(error, BillingError) else type(error).__name__
        fields = {"idempotency_key": self._key, "amount_minor": passage.amount_minor, "code": code}
        log.error(
            "billing charge not delivered: %s",
            code,
            extra={f"billing_{name}": value for name, value in fields.items()},
        )


class HoldingGate(Gate):
    """A gate that holds its amount before the interaction, and captures the cost after it."""

    def __init__(
        self,
        operations: Operations,
        user: User | None,
        interaction: Interaction,
        user_fields: UserFields,
        terms: HoldTerms,
    ) -> None:
        super().__init__(operations, user, interaction, user_fields)
        self._terms = terms
        self._work: NamedWork | None = None
        """None: the service was unavailable, and the policy is `fail_open`."""
        self._passage: Passage
        self._unpaid: Exception | None = None

    def enter(self) -> Flow[Passage]:
        """Check the user's credit and hold the amount. Raises the errors of a gate, and PaymentRequired for credit that
        was spent since the check, or by a limit or a run."""
        status = yield from self._check()
        error = refusal(status, self._amount_minor)
        if error is not None and not isinstance(error, NoCredit):
            raise error
        self._passage = Passage(status, self._amount_minor)
        if status.assumed:
            return self._passage
        try:
            yield from self._hold()  # without credit too: a hold of the interaction may be open, or have paid for it
        except PaymentRequired:
            if error is not None:
                raise error from None
            raise
        except Unavailable:
            if self._operations.policy == "fail_closed":
                raise
        return self._passage

    def _hold(self) -> Flow[NamedWork]:
        work = NamedWork(self._operations, self._interaction_id, self._opening())
        yield from work.enter()
        self._work, self._passage.hold = work, work.hold
        return work

    def _opening(self) -> Mapping[str, Any]:
        """Return the hold's fields. They are the same at a repeat, so they contain no id of the request."""
        given = {**(self._metadata or {}), "description": self._description}
        metadata = {name: value for name, value in without_none(given).items() if name != "request_id"}
        return {
            **request_fields(self._user, self._user_fields),
            "amount_minor": self._amount_minor,
            **without_none({"metadata": metadata or None}),
            **self._terms.fields(),
        }

    def leave(self, failure: BaseException | None) -> Flow[None]:
        """Release the hold with the outcome of the failure; without one, capture what the interaction cost."""
        if failure is None:
            yield from self._pay()
        elif self._work is not None:
            yield from self._work.leave(failure)
            self._passage.hold = self._work.hold

    def _pay(self) -> Flow[None]:
        work = self._work or (yield from self._hold())
        cost = {"amount_minor": self._passage.amount_minor}
        if not work.replayed:
            self._passage.hold = yield from (work.pay(cost) if self._passage.amount_minor else work.release())

    def log_unsettled(self, error: Exception) -> None:
        """Log that the interaction is not paid for, or that its hold is left to its expiry."""
        self._log(error, self._passage)
        if not (isinstance(error, Unavailable) and self._operations.policy == "fail_open"):
            self._unpaid = error

    def require_paid(self) -> None:
        """Raise the error of the settlement, if there was one."""
        if self._unpaid is not None:
            raise self._unpaid


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
