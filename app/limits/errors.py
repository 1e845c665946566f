"""Errors of limits that callers set. A request that a limit refuses raises `app.ledger.limits.LimitExceeded`."""

from app.errors import AppError


class LimitNotFound(AppError):
    """Not cacheable: an unknown id may be one of another environment."""

    status, code = 404, "limit_not_found"

    def __init__(self) -> None:
        super().__init__("Limit not found", headers={"Cache-Control": "no-store"})


class NotLimitOwner(AppError):
    """Users and the operator each remove their own limits. Admins remove any."""

    status, code = 403, "not_limit_owner"

    def __init__(self, owner: str) -> None:
        super().__init__(f"This limit belongs to the {owner}, who alone can remove it")


class AboveOperatorLimit(AppError):
    """A user's limit above the operator's would never refuse anything."""

    status, code = 422, "above_operator_limit"

    def __init__(self, amount: str) -> None:
        super().__init__(f"amount must be at most {amount}, the operator's limit", figures={"field": "amount"})


class TooManyLimits(AppError):
    status, code = 422, "too_many_limits"

    def __init__(self, most: int) -> None:
        super().__init__(f"the account has {most} limits of this owner, the most that it can have: remove some")
