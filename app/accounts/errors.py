"""Errors of accounts."""

from app.errors import AppError


class AccountErased(AppError):
    """Its person was erased: no identity leads to the account, so no caller could use it if it were open."""

    status, code = 409, "account_erased"

    def __init__(self) -> None:
        super().__init__("The account's person was erased, so it stays closed")


class AccountExists(AppError):
    status, code = 409, "account_exists"

    def __init__(self) -> None:
        super().__init__("Account already exists")


class AccountInDebt(AppError):
    """A user with a debt cannot delete the account: the debt would be forgotten."""

    status, code = 409, "account_in_debt"

    def __init__(self) -> None:
        super().__init__("Account has a debt: it can be deleted once the debt is paid")


class DeletionNotConfigured(AppError):
    """IDENTITY_DIGEST_KEY is not set, so a deletion would renew what is given once."""

    status, code = 503, "deletion_not_configured"

    def __init__(self) -> None:
        super().__init__("Users cannot delete their accounts here: ask support", headers={"Retry-After": "3600"})


class IdentityRequired(AppError):
    """An API key acts for any user, so the request must name one."""

    status, code = 422, "identity_required"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is required with an API key")
