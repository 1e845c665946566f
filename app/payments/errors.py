"""Payment outcomes that end a request."""

from app.errors import AppError


class PaymentsNotConfigured(AppError):
    """No payment provider is configured for the caller's environment."""

    status, code = 503, "payments_not_configured"

    def __init__(self) -> None:
        super().__init__("No payment provider is configured", headers={"Retry-After": "3600"})


class PaymentProviderError(AppError):
    """Stripe did not carry out a request."""


class PaymentProviderUnavailable(PaymentProviderError):
    """Stripe does not answer in time, or reports a failure. Nothing is lost: retry."""

    status, code = 503, "payment_provider_unavailable"

    def __init__(self) -> None:
        super().__init__("The payment provider does not answer, retry shortly", headers={"Retry-After": "5"})


class PaymentProviderFailed(PaymentProviderUnavailable):
    """Stripe reports a failure on its side, and repeats it for the same idempotency key."""


class PaymentProviderRefused(PaymentProviderUnavailable):
    """Stripe does not accept the operator's key. Once the operator has corrected it, the same request succeeds."""


class PaymentProviderForbids(PaymentProviderRefused):
    """Stripe knows the key, a restricted one without this permission."""


class PaymentProviderRejects(PaymentProviderError):
    """Stripe finds the request itself invalid (400), so a retry fails too. The operator is alerted."""

    status, code = 422, "payment_provider_rejects"

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("The payment provider rejects this request. Do not retry: the operator is alerted")
        self.reason = reason


class PaymentDeclined(PaymentProviderError):
    """The card was declined, or its owner has to authenticate the payment, so nothing was paid."""

    status, code = 409, "payment_declined"

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("The payment was declined. Use another card, or authenticate it on the billing page")
        self.reason = reason


class PurchaseRejected(AppError):
    """Stripe does not accept the new payment, for example because of its amount or currency."""

    status, code = 422, "purchase_rejected"

    def __init__(self) -> None:
        super().__init__("The payment provider rejects this purchase, so it cannot be made. The operator is alerted")


class TooManyOpenPurchases(AppError):
    """The account has as many open and unpaid purchases as one may have (MAX_OPEN_PURCHASES)."""

    status, code = 409, "too_many_open_purchases"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} purchases of this account are open and unpaid: pay one of them, or wait until one expires, "
            "24 hours after it was opened"
        )


class RefundRefused(AppError):
    """Stripe does not refund this money: it is more than the rest of the payment, or the payment is disputed."""

    status, code = 409, "refund_refused"

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"Stripe refuses this refund: {reason or 'no reason given'}")


class CheckoutCompleted(AppError):
    """The purchase that this request repeats has been paid, or its payment is on its way: its page is closed."""

    status, code = 409, "checkout_completed"

    def __init__(self) -> None:
        super().__init__(
            "This purchase has been paid, or its payment is on its way. To buy once more, send another Idempotency-Key"
        )


class InvalidAmount(AppError):
    """The amount of money cannot be bought. The neighbours' clients expect 400."""

    status, code = 400, "invalid_amount"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", figures={"field": field})


class ReturnUrlNotAllowed(AppError):
    """The address to return to is of none of the allowed web apps (FRONTEND_URL, RETURN_URL_ORIGINS)."""

    status, code = 400, "return_url_not_allowed"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is not an address of an allowed web app", figures={"field": field})


class FrontendNotConfigured(AppError):
    """The request names no address to return to, and FRONTEND_URL is not set."""

    status, code = 503, "frontend_not_configured"

    def __init__(self) -> None:
        super().__init__(
            "No address of a web app is configured to return to after the payment: send success_url and cancel_url",
            headers={"Retry-After": "3600"},
        )


class InvalidSignature(AppError):
    """The webhook does not carry a fresh signature of one of our secrets."""

    status, code = 400, "invalid_signature"

    def __init__(self) -> None:
        super().__init__("Invalid webhook signature")


class PaymentNotFound(AppError):
    status, code = 404, "payment_not_found"

    def __init__(self) -> None:
        super().__init__("Payment not found")


class PurchaseGivenUp(AppError):
    """The idempotency key belongs to a purchase that was never opened at Stripe and was canceled after a day."""

    status, code = 409, "purchase_given_up"

    def __init__(self) -> None:
        super().__init__("This purchase was given up before it could be paid: buy again with another idempotency key")


class UnknownPack(AppError):
    status, code = 422, "unknown_pack"

    def __init__(self, pack: str, known: list[str]) -> None:
        super().__init__(f"pack {pack!r} is not one of {', '.join(known)}")
