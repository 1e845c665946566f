"""Errors of accounts."""

from app.errors import AppError


class AccountErased(AppError):
    """Its person was erased: no identity leads to the account, so no caller could use it if it were open."""

    status, code = 409, "account_erased"

    def __init__(self) -> None:
        super().__init__("The account's person was erased, so it stays closed")


class IdentityRequired(AppError):
    """An API key acts for any user, so the request must name one."""

    status, code = 422, "identity_required"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is required with an API key")
