"""`/v1/billing/currencies`: the provider's currencies, for clients that show or read amounts."""

from fastapi import APIRouter, Response
from pydantic import Field

from app.currencies import CURRENCIES
from app.http.schemas import Reply

MAX_AGE_S = 3600
router = APIRouter(prefix="/v1/billing/currencies", tags=["purchases"])


class CurrencyReply(Reply):
    code: str = Field(examples=["USD"])
    digits: int = Field(description="Decimals of an amount: 1999 minor units with 2 digits are 19.99.")
    step_minor: int = Field(description="Prices are multiples of it.")
    minimum_minor: int = Field(description="The least price.")


class CurrenciesReply(Reply):
    currencies: list[CurrencyReply]


@router.get("")
async def list_currencies(response: Response) -> CurrenciesReply:
    """List the currencies of purchases, with the digits of their amounts. No credential is needed.

    Nothing is sold in a currency that is not listed; amounts in it, from earlier sales, have two digits.
    """
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
    return CurrenciesReply(
        currencies=[
            CurrencyReply(**{name: getattr(info, name) for name in CurrencyReply.model_fields})
            for info in CURRENCIES.values()
        ]
    )
