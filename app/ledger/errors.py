"""Errors of the ledger."""

from app.errors import AppError


class AccountSuspended(AppError):
    status, code = 403, "account_suspended"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Account suspended: {reason}")


class AccountClosed(AppError):
    status, code = 403, "account_closed"

    def __init__(self) -> None:
        super().__init__("Account closed")


class IdempotencyKeyReused(AppError):
    """The key was used before for another amount, currency or product."""

    status, code = 422, "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency_key {key!r} was used before with other parameters")


class CurrencyMismatch(AppError):
    status, code = 422, "currency_mismatch"

    def __init__(self, given: str, expected: str) -> None:
        super().__init__(f"currency {given} is not the account's, {expected}")


class BalanceLimitExceeded(AppError):
    """A balance, or a total of money, would no longer fit 64 bits. `field` is what the caller sent."""

    status, code = 422, "balance_limit_exceeded"

    def __init__(self, field: str = "amount_minor", total: str = "balance") -> None:
        super().__init__(f"{field} is too large: the account's {total} would exceed 64 bits")


class TooManyGrants(AppError):
    """The account has the largest number of open grants. They end when they are spent or expire, or when ended."""

    status, code = 422, "too_many_grants"

    def __init__(self) -> None:
        super().__init__("the account has too many open grants: end some, or give fewer and larger ones")


class AccountNotFound(AppError):
    status, code = 404, "account_not_found"

    def __init__(self) -> None:
        super().__init__("Account not found")


class UnknownCurrency(AppError):
    """Stripe does not charge this currency, so an account in it could buy nothing."""

    status, code = 422, "unknown_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(f"currency {currency} is not one that Stripe charges, so the account could buy nothing")
