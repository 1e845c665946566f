"""Clients that may give grants and money, and accounts to give them to."""

from datetime import datetime
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import Identity
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.db import Database
from app.db.version_mark import VersionMark
from app.wallet.service import WalletService
from tests.conftest import ClientFor, make_key
from tests.support.wallets import open_account

GIVER = (Permission.MONEY_CREDIT, Permission.READ, Permission.WRITE, Permission.CREDIT)


@pytest.fixture
async def giver(client_for: ClientFor, db: Database) -> httpx.AsyncClient:
    """A client that may give grants."""
    return client_for(await make_key(db, "live", *GIVER))


@pytest.fixture
async def account_id(billing: BillingService, identity: Identity, now: datetime) -> UUID:
    """The user's account, with 3 one-time free uses."""
    return await open_account(billing, identity, now)


@pytest.fixture
def wallet(db: Database, billing: BillingService) -> WalletService:
    return WalletService(db, billing.accounts, VersionMark(db))
