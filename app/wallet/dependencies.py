"""FastAPI dependencies of the wallet's routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.wallet.service import WalletService


async def wallet_service(request: Request) -> WalletService:
    service: WalletService = request.app.state.wallet
    return service


Wallet = Annotated[WalletService, Depends(wallet_service)]
