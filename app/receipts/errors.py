"""Errors of statements."""

from app.errors import AppError


class EntryNotFound(AppError):
    """The account has fewer entries than the requested number."""

    status, code = 404, "entry_not_found"

    def __init__(self, last_entry_no: int) -> None:
        super().__init__(f"entry_no is beyond the account's last entry, {last_entry_no}")


class SigningNotConfigured(AppError):
    """SIGNING_KEYS has no private key."""

    status, code = 503, "signing_not_configured"

    def __init__(self) -> None:
        super().__init__("Statements are not signed here: ask support", headers={"Retry-After": "3600"})


class StatementNotReady(AppError):
    """The account has so many entries without a hash that one request does not chain them all."""

    status, code = 503, "statement_not_ready"

    def __init__(self) -> None:
        super().__init__("The account's ledger is being hashed, retry shortly", headers={"Retry-After": "5"})
