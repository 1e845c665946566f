"""FastAPI dependencies of the account routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.accounts.service import AccountService


async def account_service(request: Request) -> AccountService:
    service: AccountService = request.app.state.accounts
    return service


Accounts = Annotated[AccountService, Depends(account_service)]
"""Not for the busiest routes, which use only the values that KeyRoute provides."""
