"""Errors of one-time grants."""

from app.errors import AppError


class SameUser(AppError):
    """A user cannot invite themselves. Z-Billing's clients expect 400."""

    status, code = 400, "same_user"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} names the invited user: no one can invite themselves", figures={"field": field})
