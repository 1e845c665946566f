"""StatementService: signed statements of an account's balances at one ledger entry."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from app.accounts.service import AccountService
from app.auth.caller import Environment
from app.db import Database
from app.ledger.errors import AccountNotFound
from app.ledger.units import amount_text
from app.receipts import queries
from app.receipts.canonical import FIRST_HASH
from app.receipts.errors import EntryNotFound, StatementNotReady
from app.receipts.signing import TYPE, Signer

STEPS_OF_A_REQUEST = 5
"""The most transactions in which a request extends the chain, by up to 1,000 entries each."""


class StatementService:
    """One per process."""

    def __init__(self, db: Database, accounts: AccountService, signer: Signer) -> None:
        self._db = db
        self._accounts = accounts
        self.signer = signer

    async def statement(self, environment: Environment, account_id: UUID, entry_no: int | None, now: datetime) -> str:
        """Return the signed statement of the balances after an entry of the account, by default its last one.

        Extends the account's chain if needed. Raises SigningNotConfigured, AccountNotFound, EntryNotFound, and
        StatementNotReady while the worker has more to hash than a request does.
        """
        key_id = self.signer.key_id
        account = await self._accounts.state(account_id)
        if account["environment"] != environment:
            raise AccountNotFound
        structlog.contextvars.bind_contextvars(account_id=str(account_id))
        last: int = account["last_entry_no"]
        at = last if entry_no is None else entry_no
        if at > last:
            raise EntryNotFound(last)
        link = await self._link(account_id, at)
        async with self._db.read() as session:
            balances = await queries.find_balances(session, account_id, at)
        return self.signer.sign(
            {
                "type": TYPE,
                "environment": environment,
                "account_id": str(account_id),
                "entry_no": str(at),
                "entry_created_at": link["created_at"],
                "chain_hash": link["hash"],
                "balances": [_shown(balance) for balance in balances],
                "issued_at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "key_id": key_id,
            }
        )

    async def _link(self, account_id: UUID, entry_no: int) -> Mapping[str, Any]:
        """Return the hash and time of an entry that exists. Extends the chain by some steps if needed."""
        if entry_no == 0:
            return {"hash": FIRST_HASH, "created_at": None}
        for step in range(STEPS_OF_A_REQUEST + 1):
            link = await queries.find_link(self._db, account_id, entry_no)
            if link is not None:
                return link
            if step < STEPS_OF_A_REQUEST:
                async with self._db.transaction() as tx:
                    await queries.extend(tx, [account_id])
        raise StatementNotReady


def _shown(balance: Mapping[str, Any]) -> dict[str, str]:
    """Return a pool's balance as texts. Credits and uses are whole numbers, money is in the currency's major unit."""
    unit, amount = balance["unit"], balance["balance"]
    grant = {} if balance["grant_id"] is None else {"grant_id": balance["grant_id"]}
    return {
        "pool": balance["pool"],
        **grant,
        "unit": unit,
        "balance": amount_text(unit, amount),
    }
