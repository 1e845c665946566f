"""`/v1/credits/auto-refill` (wire-compatible with Z-Billing) and `/v1/credits/cards`: refills and saved cards.

Agents have users' tokens too, so every change that lets a card pay needs a person (app.auth.persons).
"""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.client_address import client_address
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import require_person
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.payments.return_urls import return_urls
from app.refills.dependencies import Cards, Refills
from app.refills.schemas import (
    AutoRefillBody,
    AutoRefillReply,
    CardReply,
    CardsReply,
    RemovedReply,
    SaveCardBody,
    SaveCardReply,
)
from app.settings import Settings

router = APIRouter(prefix="/v1/credits", tags=["purchases"], responses=CODED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
REFUSALS: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": CodedErrorReply}}


@router.get("/auto-refill", responses=NOT_FOUND)
async def get_auto_refill(caller: EndUser, accounts: Accounts, refills: Refills, now: Now) -> AutoRefillReply:
    """Return the settings of automatic refills of the user who calls, and what they lead to now."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    currency = (await accounts.state(account_id))["currency"]
    return AutoRefillReply.of(await refills.overview(account_id, currency, now), now)


@router.post("/auto-refill", responses=REFUSALS)
async def set_auto_refill(
    body: AutoRefillBody, caller: EndUser, accounts: Accounts, refills: Refills, now: Now
) -> AutoRefillReply:
    """Set automatic refills: once less than an amount is left, the saved card pays exactly the refill amount.

    It is stored without a card, and active once one is saved. 403 `person_required` for a token that an agent may have.
    """
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    currency = (await accounts.state(account_id))["currency"]
    await refills.set(account_id, body.requested, now)
    return AutoRefillReply.of(await refills.overview(account_id, currency, now), now)


@router.get("/cards", responses=NOT_FOUND)
async def list_own_cards(caller: EndUser, accounts: Accounts, cards: Cards, now: Now) -> CardsReply:
    """List the saved cards of the user who calls, newest first, one that was just saved included."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return CardsReply.of(await cards.list_of(account_id, now, refresh=True))


@router.post("/cards", responses=REFUSALS)
async def save_own_card(
    body: SaveCardBody, request: Request, caller: EndUser, accounts: Accounts, cards: Cards, now: Now
) -> SaveCardReply:
    """Record the user's consent, and begin to save a card on a page of Stripe. It then pays refills.

    The consent is stored with its time, its text and the user's address. 403 `person_required` for a token that an
    agent may have.
    """
    require_person(caller, now)
    urls = return_urls(request.app.state.settings, body.success_url, body.cancel_url)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    url = await cards.open_page(
        caller.environment, account_id, consent=body.consent, address=_address(request), urls=urls, now=now
    )
    return SaveCardReply(url=url)


@router.put("/cards/{card_id}/primary", responses=NOT_FOUND)
async def make_own_card_primary(
    card_id: UUID, caller: EndUser, accounts: Accounts, cards: Cards, now: Now
) -> CardReply:
    """Pay refills with this card from now on. 403 `person_required` for a token that an agent may have."""
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return CardReply.of(await cards.make_primary(account_id, card_id, now))


@router.delete("/cards/{card_id}", responses=NOT_FOUND)
async def remove_own_card(card_id: UUID, caller: EndUser, accounts: Accounts, cards: Cards, now: Now) -> RemovedReply:
    """Remove a saved card, here and at Stripe. Without a primary card, refills wait.

    403 `person_required` for a token that an agent may have.
    """
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await cards.remove(account_id, card_id, now)
    return RemovedReply(removed=True)


def _address(request: Request) -> str | None:
    """Return the user's address behind trusted proxies."""
    settings: Settings = request.app.state.settings
    peer = request.client.host if request.client is not None else None
    found = client_address(peer, request.headers.getlist("x-forwarded-for"), settings.trusted_proxies)
    return None if found is None else str(found)
