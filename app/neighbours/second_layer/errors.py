"""Errors of SecondLayer's routes. Their envelope gives them SecondLayer's codes (app.http.envelopes)."""

from collections.abc import Mapping

from app.errors import AppError


class TopUpRefused(AppError):
    """SecondLayer's server credited the amount that a user asked for. Money enters by payments and by admins only."""

    status, code = 403, "top_up_refused"

    def __init__(self) -> None:
        super().__init__("A user cannot add money: buy credits, or ask support")


class InsufficientBalance(AppError):
    """The user's money does not cover the estimate. Amounts are dollars."""

    status, code = 402, "insufficient_money"

    def __init__(self, current: float, required: float, shortfall: float, topup_url: str) -> None:
        super().__init__(
            f"Insufficient balance: ${current:.2f} of ${required:.2f}",
            figures={
                "balance": {"current_usd": current, "required_usd": required, "shortfall_usd": shortfall},
                "current_balance_usd": current,
                "topup_url": topup_url,
            },
        )


class InsufficientKeyCredits(AppError):
    """As InsufficientBalance, for callers with an API key. Amounts are dollars."""

    status, code = 402, "insufficient_credits"

    def __init__(self, current: float, required: float) -> None:
        super().__init__("Insufficient credits", figures={"currentBalance": current, "creditsRequired": required})


class DailyLimitExceeded(AppError):
    """Today's spending and the estimate exceed the day's limit. `limits` has both limits, in dollars."""

    status, code = 429, "daily_limit_exceeded"

    def __init__(self, limits: Mapping[str, float]) -> None:
        super().__init__(f"Daily limit of ${limits['daily_limit_usd']:.2f} exceeded", figures={"limits": dict(limits)})


class MonthlyLimitExceeded(AppError):
    """As DailyLimitExceeded, for the month."""

    status, code = 429, "monthly_limit_exceeded"

    def __init__(self, limits: Mapping[str, float]) -> None:
        super().__init__(
            f"Monthly limit of ${limits['monthly_limit_usd']:.2f} exceeded", figures={"limits": dict(limits)}
        )


class RequestLimitExceeded(AppError):
    """A limit of requests, or another limit that SecondLayer has no code for, leaves no room."""

    status, code = 429, "request_limit_exceeded"

    def __init__(self, reason: str, requests_today: int, per_day: int | None) -> None:
        figures = {"reason": reason, "requestsToday": requests_today, "rateLimitPerDay": per_day}
        super().__init__(reason, figures=figures)
