"""What can go wrong, by what the caller does about it. Every error carries `code`, `status` and `request_id`.

| error | what to do |
|---|---|
| InsufficientCredits | offer a purchase |
| AccountSuspended, AccountClosed | tell the user |
| RateLimited, ServiceUnavailable | try again later, with the same idempotency key |
| Unauthorized, PermissionDenied | fix the key |
| NotFound, InvalidRequest, IdempotencyKeyReused | fix the request |
| ServerError | report the request id |
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class BillingError(Exception):
    """The request was not carried out, or nobody knows whether it was (ServiceUnavailable)."""

    default_code: ClassVar[str] = "billing_error"

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        """The HTTP status; None if there was no answer."""
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, or sent to another process, by what it holds: not every kind is made from its message."""
        return _remade, (type(self), self.args), vars(self)


def _remade(kind: type[BillingError], args: tuple[Any, ...]) -> BillingError:
    return kind.__new__(kind, *args)


class InsufficientCredits(BillingError):
    """402: the account cannot pay. Amounts are hundredths of a credit, None if the answer does not contain them.

    `max_affordable` is the largest amount that the same operation could spend now: 0 where the price is fixed.
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


class PermissionDenied(BillingError):
    """403: the key may not do this, or not from here."""

    default_code = "missing_permission"


class AccountSuspended(BillingError):
    """403. `reason` is what the operator wrote."""

    default_code = "account_suspended"

    @property
    def reason(self) -> str:
        return self.message.removeprefix("Account suspended").removeprefix(": ")


class AccountClosed(BillingError):
    """403: nothing can be spent or bought any more."""

    default_code = "account_closed"


class Unauthorized(BillingError):
    """401: no key or token, or a wrong, expired or revoked one."""

    default_code = "unauthorized"


class NotFound(BillingError):
    """404."""

    default_code = "not_found"


class InvalidRequest(BillingError):
    """400, 413 or 422. `fields` lists what does not parse, if that is the reason."""

    default_code = "invalid_request"

    def __init__(self, message: str, *, fields: list[dict[str, Any]] | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.fields = fields or []


class IdempotencyKeyReused(InvalidRequest):
    """422: the key was used before for another amount, currency or product."""

    default_code = "idempotency_key_reused"


class Unavailable(BillingError):
    """The service could not be asked now. These are what `fail_open` forgives."""


class RateLimited(Unavailable):
    """429. `retry_after` is in seconds, None if the service did not say."""

    default_code = "rate_limited"

    def __init__(self, message: str, *, retry_after: float | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.retry_after = retry_after


class ServiceUnavailable(Unavailable):
    """502, 503, 504, or no answer in time. Whether the request was carried out is not known."""

    default_code = "service_unavailable"

    def __init__(self, message: str, *, retry_after: float | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.retry_after = retry_after


class InvalidReply(ServiceUnavailable):
    """Something answered, but not the service: the answer is not what the API describes."""

    default_code = "invalid_reply"


class ServerError(Unavailable):
    """500: a bug of the service."""

    default_code = "internal_error"


class PurchaseFailed(BillingError):
    """The payment was declined or canceled. `payment_status` is the status's word."""

    default_code = "purchase_failed"

    def __init__(self, payment_status: str) -> None:
        super().__init__(f"Payment {payment_status}")
        self.payment_status = payment_status


class PurchasePending(BillingError):
    """The payment was neither paid nor declined in the time given. `payment_status` is the last word."""

    default_code = "purchase_pending"

    def __init__(self, payment_status: str) -> None:
        super().__init__(f"Payment still {payment_status}")
        self.payment_status = payment_status


def unsendable() -> InvalidRequest:
    """For half a character, as cut-off texts end in, or for what is no number."""
    return InvalidRequest("The request holds a text or a number that cannot be sent")


def _wrong_fields(detail: object) -> str:
    """What does not parse, by the list of a 422; without what was sent."""
    told = [item for item in detail if isinstance(item, Mapping)] if isinstance(detail, list) else []
    places = [(item.get("loc"), item.get("msg")) for item in told]
    return "; ".join(
        f"{'.'.join(str(part) for part in place[1:])}: {wrong}" for place, wrong in places if isinstance(place, list)
    )


def _figure(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def error_for(status: int, body: object, *, retry_after: float | None, request_id: str | None) -> BillingError:
    """The error that an answer means, whatever its body."""
    fields = body if isinstance(body, Mapping) else {}
    detail, code = fields.get("detail"), fields.get("code")
    message = detail if isinstance(detail, str) else _wrong_fields(detail) or f"The billing service answered {status}"
    about: dict[str, Any] = {
        "code": code if isinstance(code, str) else None,
        "status": status,
        "request_id": request_id,
    }
    match status:
        case 401:
            return Unauthorized(message, **about)
        case 402:
            names = ("balance", "required", "shortfall", "max_affordable")
            return InsufficientCredits(message, **{name: _figure(fields, f"{name}_minor") for name in names}, **about)
        case 403:
            kinds = {"account_suspended": AccountSuspended, "account_closed": AccountClosed}
            return kinds.get(str(code), PermissionDenied)(message, **about)
        case 404:
            return NotFound(message, **about)
        case 422 if code == "idempotency_key_reused":
            return IdempotencyKeyReused(message, **about)
        case 429:
            return RateLimited(message, retry_after=retry_after, **about)
        case 502 | 503 | 504:
            return ServiceUnavailable(message, retry_after=retry_after, **about)
    if status >= 500:
        return ServerError(message, **about)
    if status >= 400:
        return InvalidRequest(message, fields=detail if isinstance(detail, list) else None, **about)
    return InvalidReply(message, **about)
