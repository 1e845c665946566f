"""Errors of Z-Billing's routes."""

from app.errors import AppError


class AmountNotPositive(AppError):
    """Z-Billing took negative amounts, which robbed accounts. Its clients expect 400."""

    status, code = 400, "amount_not_positive"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} must be above 0", figures={"field": field})
