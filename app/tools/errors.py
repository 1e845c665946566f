"""Tool outcomes that end a request."""

from app.errors import AppError


class UnknownProduct(AppError):
    status, code = 400, "unknown_product_type"

    def __init__(self, product_type: str) -> None:
        super().__init__(f"Unknown product type: {product_type}")
