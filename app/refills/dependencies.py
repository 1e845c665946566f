"""FastAPI dependencies of refills and saved cards."""

from typing import Annotated

from fastapi import Depends, Request

from app.refills.cards import CardService
from app.refills.service import RefillService


async def refill_service(request: Request) -> RefillService:
    service: RefillService = request.app.state.refills
    return service


async def card_service(request: Request) -> CardService:
    service: CardService = request.app.state.cards
    return service


Refills = Annotated[RefillService, Depends(refill_service)]
Cards = Annotated[CardService, Depends(card_service)]
