"""Billing outcomes that end a request."""

from app.billing.pools import MINOR_PER_CREDIT
from app.errors import AppError


class InsufficientCredits(AppError):
    """The account cannot pay. Takes credits; the answer gives hundredths of a credit.

    `affordable` is the largest amount that the same operation could spend now. None: all that is `available`. An
    operation of a fixed price can afford nothing.
    """

    status, code = 402, "insufficient_credits"

    def __init__(self, *, available: int, required: int, affordable: int | None = None) -> None:
        balance_minor, required_minor = available * MINOR_PER_CREDIT, required * MINOR_PER_CREDIT
        super().__init__(
            f"Insufficient credits. Balance: {balance_minor}, Required: {required_minor}",
            figures={
                "balance_minor": balance_minor,
                "required_minor": required_minor,
                "shortfall_minor": required_minor - balance_minor,
                "max_affordable_minor": balance_minor if affordable is None else affordable * MINOR_PER_CREDIT,
            },
        )
        self.available = available
        self.required = required


class BalanceChanged(Exception):
    """The paid credits are not what an admin saw. Nothing was done. The back office answers with what changed."""

    def __init__(self, paid: int) -> None:
        super().__init__(paid)
        self.paid = paid


class AccountSuspended(AppError):
    status, code = 403, "account_suspended"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Account suspended: {reason}")


class AccountClosed(AppError):
    status, code = 403, "account_closed"

    def __init__(self) -> None:
        super().__init__("Account closed")


class AccountErased(AppError):
    """Its person is gone for good: nobody could use it if it were open."""

    status, code = 409, "account_erased"

    def __init__(self) -> None:
        super().__init__("The account's person was erased, so it stays closed")


class IdempotencyKeyReused(AppError):
    """The key was used before for another amount, currency or product."""

    status, code = 422, "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency_key {key!r} was used before with other parameters")


class CurrencyMismatch(AppError):
    status, code = 422, "currency_mismatch"

    def __init__(self, given: str, expected: str) -> None:
        super().__init__(f"currency {given} is not the account's, {expected}")


class UnknownCurrency(AppError):
    """An account in it could buy nothing."""

    status, code = 422, "unknown_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(f"currency {currency} is not one that Stripe charges, so the account could buy nothing")


class BalanceLimitExceeded(AppError):
    """The balance would no longer fit 64 bits in hundredths of a credit."""

    status, code = 422, "balance_limit_exceeded"

    def __init__(self) -> None:
        super().__init__("amount_minor is too large: the account's balance would exceed 64 bits")


class AccountNotFound(AppError):
    status, code = 404, "account_not_found"

    def __init__(self) -> None:
        super().__init__("Account not found")


class ChargeNotFound(AppError):
    """Not cacheable, which a 404 is by default: the charge may be recorded a moment later."""

    status, code = 404, "charge_not_found"

    def __init__(self) -> None:
        super().__init__("Charge not found", headers={"Cache-Control": "no-store"})


class IdentityRequired(AppError):
    """An API key acts for any user, so the request must name one."""

    status, code = 422, "identity_required"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is required with an API key")
