"""Double charges: a second natural key finds charges that were sent twice under different idempotency keys (ADR 36).

Some clients put the time into their idempotency keys, so a retry is a new charge. The purpose of a charge does not
change with its key: the request id in its metadata, its description and its amount. The first charge with a purpose is
recorded; a later one with another key is probably a double charge.

Only charges of API keys with a policy that asks for it take part. All others cost no statement.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from app.billing import queries
from app.billing.errors import ProbableDoubleCharge
from app.billing.posting import CHARGE, Charge, ChargeRequest, charge_of
from app.db.statements import Tx
from app.ledger.locked_account import LockedAccount


def purpose_of(request: ChargeRequest) -> bytes | None:
    """Return a digest of the purpose of a charge. None: its key ignores double charges, or it has no request id."""
    request_id = request.details.get("request_id")
    if request.double_charges == "ignore" or request_id is None:
        return None
    facts = [CHARGE, request_id, request.description, request.amount_minor]
    return sha256(json.dumps(facts, separators=(",", ":")).encode()).digest()


class Purposes:
    """The purposes of a transaction's charges: the first charges that are recorded, and rows for the new ones."""

    def __init__(self, recorded: dict[tuple[UUID, bytes], Charge]) -> None:
        self._recorded = recorded
        self._rows: list[dict[str, Any]] = []

    @classmethod
    async def read(cls, tx: Tx, requests: Sequence[ChargeRequest]) -> "Purposes | None":
        """Return the purposes of the requests, by one statement. None, without a statement: none of them has one.

        The caller has locked the accounts, so no other transaction records one of these purposes at the same time.
        """
        if all(request.double_charges == "ignore" for request in requests):
            return None
        purposes = [(request.account_id, purpose) for request in requests if (purpose := purpose_of(request))]
        rows = await queries.find_first_charges(tx, list(dict.fromkeys(purposes)))
        return cls({(row["account_id"], row["purpose"]): charge_of(row) for row in rows})

    def first(self, account: LockedAccount, request: ChargeRequest) -> UUID | None:
        """Return the id of the charge that a new one repeats, for a key that flags it. None: it repeats none.

        Raise ProbableDoubleCharge for a key that refuses it.
        """
        if (purpose := purpose_of(request)) is None:
            return None
        first = (account.charged or {}).get(purpose) or self._recorded.get((account.account_id, purpose))
        if first is None:
            return None
        if request.double_charges == "refuse":
            raise ProbableDoubleCharge(first)
        charge_id: UUID = first.charge_id
        return charge_id

    def note(self, account: LockedAccount, request: ChargeRequest, charge: Charge) -> None:
        """Note a new charge, for later ones of this transaction and of all others."""
        if (purpose := purpose_of(request)) is None:
            return
        if charge.double_of is None:
            account.charged = account.charged or {}
            account.charged[purpose] = charge
        self._rows.append(
            {
                "account_id": charge.account_id,
                "charge_id": charge.charge_id,
                "purpose": purpose if charge.double_of is None else None,
                "double_of": charge.double_of,
            }
        )

    async def store(self, tx: Tx) -> None:
        """Store the new purposes, after their charges."""
        if self._rows:
            await queries.insert_purposes(tx, self._rows)
