"""Errors of SecondLayer's routes."""

from app.errors import AppError


class TopUpRefused(AppError):
    """SecondLayer's server credited the amount that a user asked for. Money enters by payments and by admins only."""

    status, code = 403, "top_up_refused"

    def __init__(self) -> None:
        super().__init__("A user cannot add money: buy credits, or ask support")
