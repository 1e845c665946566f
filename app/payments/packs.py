"""`/v1/billing/packs`: the packs of credits that are for sale."""

from fastapi import APIRouter, Request
from pydantic import Field

from app.accounts.schemas import LaterQueryUserId, OAuthProvider, identity_of
from app.auth.dependencies import ReaderOrUser
from app.billing.dependencies import Billing
from app.currencies import info_of
from app.http.schemas import ERRORS, Key255, Reply
from app.payments.service import PaymentService

router = APIRouter(prefix="/v1/billing/packs", tags=["purchases"], responses=ERRORS)


class PackReply(Reply):
    pack: str = Field(description="Its name: `pack` of a purchase.", examples=["standard"])
    credits: int
    price_minor: int = Field(description="Minor units of the currency (500 = $5.00).")
    currency: str
    currency_digits: int = Field(description="Decimals of the price: 500 with 2 digits is 5.00.")


class PacksForSaleReply(Reply):
    packs: list[PackReply]


@router.get("")
async def list_packs(
    request: Request,
    caller: ReaderOrUser,
    billing: Billing,
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: LaterQueryUserId = None,
) -> PacksForSaleReply:
    """List the packs that a user can buy: those in the currency of their account, the default one first.

    An API key that names no user gets all packs. An unknown user gets those of a new account.
    """
    payments: PaymentService = request.app.state.payments
    if caller.user is None and oauth_provider is external_id is user_id is None:
        packs = await payments.all_packs()
    else:
        packs = await payments.packs_of(
            await billing.accounts.directory.find(identity_of(caller, oauth_provider, external_id, user_id))
        )
    return PacksForSaleReply(
        packs=[
            PackReply(
                pack=name,
                credits=pack.credits,
                price_minor=pack.price_minor,
                currency=pack.currency,
                currency_digits=info_of(pack.currency).digits,
            )
            for name, pack in packs.items()
        ]
    )
