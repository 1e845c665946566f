"""Errors of price books."""

from app.errors import AppError


class PriceBookNotFound(AppError):
    status, code = 404, "price_book_not_found"

    def __init__(self, version: int) -> None:
        super().__init__(f"There is no price book of version {version}")
