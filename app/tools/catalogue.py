"""Catalogue: the configured products, and the accrual of their free uses. Pure.

A product starts with `initial_free` uses on the day the account is created. Each UTC midnight adds `daily_free`, up to
`cap`. A balance above a lowered cap stays as it is: nothing is clamped.
"""

from collections.abc import Mapping
from datetime import date

from app.products import Product
from app.tools.errors import UnknownProduct


def find_product(products: Mapping[str, Product], product_type: str) -> Product:
    """Return the product of this name. Raises UnknownProduct."""
    product = products.get(product_type)
    if product is None:
        raise UnknownProduct(product_type)
    return product


def free_on(today: date, *, left: int, day: date, product: Product) -> int:
    """Return the free uses on `today`, from those `left` on `day`. A clock that steps back adds nothing."""
    midnights = max(0, (today - day).days)
    return max(left, min(left + midnights * product.daily_free, product.cap))
