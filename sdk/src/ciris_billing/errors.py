"""Errors, grouped by how a caller handles them. Each has `code`, `status` and `request_id`.

| error | action |
|---|---|
| InsufficientCredits, InsufficientMoney, LimitExceeded, ApprovalRequired, RunRefused | follow one of the `remedies` |
| AccountSuspended, AccountClosed | inform the user |
| RateLimited, ServiceUnavailable | retry later with the same idempotency key |
| Unauthorized, PermissionDenied | check the API key or token |
| NotFound, InvalidRequest, IdempotencyKeyReused, EventIdReused, AmountAboveHold | fix the request |
| CostRecordSettled, HoldSettled | the first outcome counts |
| UsageNotQueued | send the event directly, or make room |
| ServerError | report the request id |
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from ciris_billing._answers import amount, moment
from ciris_billing.remedies import Remedy, SmallerAmount, Wait


class BillingError(Exception):
    """The request failed. It had no effect, except after ServiceUnavailable, when its outcome is unknown."""

    default_code: ClassVar[str] = "billing_error"

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        """The HTTP status; None without an answer."""
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by attributes, because the constructors of some errors take other arguments than a
        message."""
        return _restored, (type(self), self.args), vars(self)


def _restored(kind: type[BillingError], args: tuple[Any, ...]) -> BillingError:
    return kind.__new__(kind, *args)


class PaymentRequired(BillingError):
    """402: the account cannot pay, or a limit or a run does not allow the request. It would be refused again
    (`retryable`). `remedies` are what would help, in the order in which to try them."""

    retryable = False

    def __init__(self, message: str, *, remedies: Sequence[Remedy] = (), **about: Any) -> None:
        super().__init__(message, **about)
        self.remedies = tuple(remedies)


class InsufficientCredits(PaymentRequired):
    """402: the account has not enough credits. Amounts are hundredths of a credit; None if the answer does not contain
    them.

    `max_affordable` is the largest amount that the same operation could spend now; 0 if the price is fixed.
    """

    default_code = "insufficient_credits"

    def __init__(
        self,
        message: str,
        *,
        balance: int | None = None,
        required: int | None = None,
        shortfall: int | None = None,
        max_affordable: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.balance = balance
        self.required = required
        self.shortfall = shortfall
        self.max_affordable = max_affordable


class RunRefused(PaymentRequired):
    """402: a run, or the burn-rate brake, does not allow the work; see `code`. `run` is as the service states it.
    `approval_id` names the approval that the run waits for; None: it waits for none."""

    codes = frozenset({"run_budget_exceeded", "run_paused", "run_closed", "burn_rate_exceeded"})

    def __init__(
        self, message: str, *, run: Mapping[str, Any] | None = None, approval_id: str | None = None, **about: Any
    ) -> None:
        super().__init__(message, **about)
        self.run = dict(run or {})
        self.approval_id = approval_id


class InsufficientMoney(PaymentRequired):
    """402: the account has not enough money for a usage event or a hold. `balance`, `required`, `shortfall` and
    `max_affordable` are exact, in the currency's major unit. `balance_cents` is rounded down and `required_cents` up.
    None if the answer does not contain them.

    The same event can be sent again when the user has paid."""

    default_code = "insufficient_money"

    def __init__(
        self,
        message: str,
        *,
        balance: Decimal | None = None,
        required: Decimal | None = None,
        balance_cents: int | None = None,
        required_cents: int | None = None,
        currency: str | None = None,
        max_affordable: Decimal | None = None,
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.balance = balance
        self.required = required
        self.balance_cents = balance_cents
        self.required_cents = required_cents
        self.currency = currency
        self.max_affordable = max_affordable

    @property
    def shortfall(self) -> Decimal | None:
        """The missing amount."""
        return None if self.balance is None or self.required is None else max(Decimal(0), self.required - self.balance)


class LimitExceeded(PaymentRequired):
    """402: a limit of spending leaves no room for the request. Nothing was spent.

    `limit` has the limit's `id`, `scope`, `scope_value`, `window`, `unit`, `amount`, `spent` and `resets_at`, as the
    service writes them. `spent`, `amount` and `required` are in the limit's unit: whole credits and uses, or exact
    money. None, or empty, if the answer does not contain them."""

    default_code = "limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        limit: Mapping[str, Any] | None = None,
        required: Decimal | None = None,
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.limit = dict(limit or {})
        self.required = required

    @property
    def amount(self) -> Decimal | None:
        """The most that the limit's window may count."""
        return amount(self.limit, "amount")

    @property
    def spent(self) -> Decimal | None:
        """The amount that the window has counted: spending, open holds and open cost records."""
        return amount(self.limit, "spent")

    @property
    def resets_at(self) -> datetime | None:
        """When the next window begins. None: never, or unknown."""
        return moment(self.limit, "resets_at")

    @property
    def wait_until(self) -> datetime | None:
        """When the same request fits again. None: waiting does not help."""
        return next((one.until for one in self.remedies if isinstance(one, Wait)), None)

    @property
    def max_affordable_minor(self) -> int | None:
        """The largest amount of credits, in hundredths, that all limits leave now. None: none, or the limit is of
        money."""
        return next((one.amount_minor for one in self.remedies if isinstance(one, SmallerAmount)), None)


class ApprovalRequired(LimitExceeded):
    """402: a person has to allow the request. Poll `approval_id`, then send the same request again."""

    default_code = "approval_required"

    def __init__(self, message: str, *, approval_id: str | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.approval_id = approval_id


class PermissionDenied(BillingError):
    """403: the key lacks the permission, or is not allowed from this address."""

    default_code = "missing_permission"


class AccountSuspended(BillingError):
    """403: the account is suspended. `reason` is the operator's text."""

    default_code = "account_suspended"

    @property
    def reason(self) -> str:
        return self.message.removeprefix("Account suspended").removeprefix(": ")


class AccountClosed(BillingError):
    """403: the account is closed and can neither spend nor buy."""

    default_code = "account_closed"


class Unauthorized(BillingError):
    """401: the key or token is missing, invalid, expired or revoked."""

    default_code = "unauthorized"


class NotFound(BillingError):
    """404: the account, charge, payment or other resource does not exist."""

    default_code = "not_found"


class InvalidRequest(BillingError):
    """400, 413 or 422: the request is not valid. `fields` lists the validation errors, if there are any."""

    default_code = "invalid_request"

    def __init__(self, message: str, *, fields: list[dict[str, Any]] | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.fields = fields or []


class IdempotencyKeyReused(InvalidRequest):
    """422: the idempotency key was used before for another amount, currency or product."""

    default_code = "idempotency_key_reused"


class EventIdReused(InvalidRequest):
    """422: the event id was used before for other content. This event is not recorded."""

    default_code = "event_id_reused"


class CostRecordSettled(InvalidRequest):
    """409: the cost record has another outcome: the first one counts. `outcome` is `completed`, `failed` or `expired`.
    `cost` is the sum of its items and `charged` what the account paid and owes, exact and in the currency's major unit.
    None if the answer does not contain them."""

    default_code = "cost_record_settled"

    def __init__(
        self,
        message: str,
        *,
        outcome: str | None = None,
        cost: Decimal | None = None,
        charged: Decimal | None = None,
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.outcome = outcome
        self.cost = cost
        self.charged = charged


class HoldSettled(InvalidRequest):
    """409: the hold has another outcome: the first one counts. `hold_status` is `captured`, `released` or `expired`.
    `captured` is what was spent, of credits in hundredths, of money in the currency's major unit. None if the answer
    does not contain them."""

    default_code = "hold_settled"

    def __init__(
        self, message: str, *, hold_status: str | None = None, captured: Decimal | None = None, **about: Any
    ) -> None:
        super().__init__(message, **about)
        self.hold_status = hold_status
        self.captured = captured


class AmountAboveHold(InvalidRequest):
    """422: the capture is larger than the hold. Nothing changed: the hold is still open."""

    default_code = "amount_above_hold"


class Unavailable(BillingError):
    """The service is temporarily unavailable. The policy `fail_open` tolerates these errors."""


class RateLimited(Unavailable):
    """429: too many requests. `retry_after` is in seconds; None if the answer has no such header."""

    default_code = "rate_limited"

    def __init__(self, message: str, *, retry_after: float | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.retry_after = retry_after


def is_limit(error: BillingError) -> bool:
    """Whether a limit of usage or cost is reached: a 429 with another code than that of too many requests."""
    return isinstance(error, RateLimited) and error.code != RateLimited.default_code


class ServiceUnavailable(Unavailable):
    """502, 503, 504, or no answer in time. The outcome is unknown: retry with the same idempotency key."""

    default_code = "service_unavailable"

    def __init__(self, message: str, *, retry_after: float | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.retry_after = retry_after


class InvalidReply(ServiceUnavailable):
    """The answer does not match the API, for example because a proxy answered."""

    default_code = "invalid_reply"


class ServerError(Unavailable):
    """500: an error in the service. Report the request id."""

    default_code = "internal_error"


class UsageNotQueued(BillingError):
    """A reporter could not store the event, or the item of a cost record: its queue is full (`queue_full`), the disk is
    full or fails (`queue_unwritable`), or it is closed (`queue_closed`). Nothing is reported; `event_id` names the
    event."""

    default_code = "queue_full"

    def __init__(self, message: str, *, event_id: str, **about: Any) -> None:
        super().__init__(message, **about)
        self.event_id = event_id


class PurchaseFailed(BillingError):
    """The payment was declined or canceled. `payment_status` is its status."""

    default_code = "purchase_failed"

    def __init__(self, payment_status: str) -> None:
        super().__init__(f"Payment {payment_status}")
        self.payment_status = payment_status


class PurchasePending(BillingError):
    """The payment is still open after the time limit. `payment_status` is its last status."""

    default_code = "purchase_pending"

    def __init__(self, payment_status: str) -> None:
        super().__init__(f"Payment still {payment_status}")
        self.payment_status = payment_status


def unsendable() -> InvalidRequest:
    """Return the error for unpaired surrogates in a text, or NaN and infinity as a number."""
    return InvalidRequest(
        "The request contains a text or number that cannot be sent: remove unpaired surrogates, NaN and infinity"
    )
