"""Wire types of amounts and currencies."""

from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
)

from app.http.schemas import MAX_INT64
from app.ledger.pools import MINOR_PER_CREDIT
from app.packs import Currency

AmountMinor = Annotated[int, Field(strict=True, ge=1, le=MAX_INT64, description="Hundredths of a credit; rounded up.")]

GrantMinor = Annotated[
    int,
    Field(
        strict=True, le=MAX_INT64, multiple_of=MINOR_PER_CREDIT, description="Hundredths of a credit: whole credits."
    ),
]

UpperCurrency = Annotated[Currency, BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)]
