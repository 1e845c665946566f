"""Errors, grouped by how a caller handles them. Each has `code`, `status` and `request_id`.

| error | action |
|---|---|
| InsufficientCredits, InsufficientMoney | offer a purchase |
| AccountSuspended, AccountClosed | inform the user |
| RateLimited, ServiceUnavailable | retry later with the same idempotency key |
| Unauthorized, PermissionDenied | check the API key or token |
| NotFound, InvalidRequest, IdempotencyKeyReused, EventIdReused, AmountAboveHold | fix the request |
| CostRecordSettled, HoldSettled | the first outcome counts |
| UsageNotQueued | send the event directly, or make room |
| ServerError | report the request id |
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar


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


class InsufficientCredits(BillingError):
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


class InsufficientMoney(BillingError):
    """402: the account has not enough money for a usage event or a hold. `balance`, `required` and `shortfall` are
    exact, in the currency's major unit. `balance_cents` is rounded down and `required_cents` up. None if the answer
    does not contain them.

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
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.balance = balance
        self.required = required
        self.balance_cents = balance_cents
        self.required_cents = required_cents
        self.currency = currency

    @property
    def shortfall(self) -> Decimal | None:
        """The missing amount."""
        return None if self.balance is None or self.required is None else max(Decimal(0), self.required - self.balance)


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


def _wrong_fields(detail: object) -> str:
    """Return the validation errors of a 422 as text, without the sent values."""
    items = [item for item in detail if isinstance(item, Mapping)] if isinstance(detail, list) else []
    places = [(item.get("loc"), item.get("msg")) for item in items]
    return "; ".join(
        f"{'.'.join(str(part) for part in place[1:])}: {wrong}" for place, wrong in places if isinstance(place, list)
    )


def _integer(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _amount(body: Mapping[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    try:
        return Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None


def _inner(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the envelope of the usage, money and account routes: `{"error": {"code", "message", "details"?}}`."""
    inner = fields.get("error")
    return inner if isinstance(inner, Mapping) else {}


def error_code(fields: Mapping[str, Any]) -> str | None:
    """Return the code of an answer, in either envelope."""
    codes = (fields.get("code"), _inner(fields).get("code"))
    return next((code for code in codes if isinstance(code, str)), None)


def _message(fields: Mapping[str, Any], status: int) -> str:
    for text in (fields.get("detail"), _wrong_fields(fields.get("detail")), _inner(fields).get("message")):
        if isinstance(text, str) and text:
            return text
    return f"The billing service answered {status}"


def _unpaid(fields: Mapping[str, Any], message: str, about: dict[str, Any]) -> BillingError:
    """Return the error for a 402: of money, if the answer comes from a route of money, otherwise of credits."""
    if _inner(fields) or about["code"] == InsufficientMoney.default_code:
        inner = _inner(fields).get("details")
        cents = inner if isinstance(inner, Mapping) else {}
        currency = fields.get("currency")
        return InsufficientMoney(
            message,
            balance=_amount(fields, "balance"),
            required=_amount(fields, "required"),
            balance_cents=_integer(cents, "balance"),
            required_cents=_integer(cents, "required"),
            currency=currency if isinstance(currency, str) else None,
            **about,
        )
    names = ("balance", "required", "shortfall", "max_affordable")
    return InsufficientCredits(message, **{name: _integer(fields, f"{name}_minor") for name in names}, **about)


def _settled(fields: Mapping[str, Any], message: str, about: dict[str, Any]) -> BillingError:
    """Return the error for a 409 of a cost record or hold that has another outcome."""
    is_hold = about["code"] == HoldSettled.default_code
    details = fields.get("details") if is_hold else _inner(fields).get("details")
    known = details if isinstance(details, Mapping) else {}
    outcome = known.get("status") if isinstance(known.get("status"), str) else None
    if is_hold:
        return HoldSettled(message, hold_status=outcome, captured=_amount(known, "captured"), **about)
    amounts = {name: _amount(known, name) for name in ("cost", "charged")}
    return CostRecordSettled(message, outcome=outcome, **amounts, **about)


OF_422: dict[str | None, type[InvalidRequest]] = {
    kind.default_code: kind for kind in (IdempotencyKeyReused, EventIdReused, AmountAboveHold)
}


def error_for(status: int, body: object, *, retry_after: float | None, request_id: str | None) -> BillingError:
    """Return the error for an answer with any status and body."""
    fields = body if isinstance(body, Mapping) else {}
    code, message = error_code(fields), _message(fields, status)
    about: dict[str, Any] = {"code": code, "status": status, "request_id": request_id}
    match status:
        case 401:
            return Unauthorized(message, **about)
        case 402:
            return _unpaid(fields, message, about)
        case 403:
            kinds = {"account_suspended": AccountSuspended, "account_closed": AccountClosed}
            return kinds.get(str(code), PermissionDenied)(message, **about)
        case 404:
            return NotFound(message, **about)
        case 409 if code in (CostRecordSettled.default_code, HoldSettled.default_code):
            return _settled(fields, message, about)
        case 422 if code in OF_422:
            return OF_422[code](message, **about)
        case 429:
            return RateLimited(message, retry_after=retry_after, **about)
        case 502 | 503 | 504:
            return ServiceUnavailable(message, retry_after=retry_after, **about)
    if status >= 500:
        return ServerError(message, **about)
    if status >= 400:
        detail = fields.get("detail")
        return InvalidRequest(message, fields=detail if isinstance(detail, list) else None, **about)
    return InvalidReply(message, **about)
