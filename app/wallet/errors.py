"""Wallet outcomes that end a request."""

from app.errors import AppError


class GrantNotFound(AppError):
    status, code = 404, "grant_not_found"

    def __init__(self) -> None:
        super().__init__("Grant not found")
