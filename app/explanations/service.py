"""Explainer: why a charge or a hold cost what it did. Reads the primary database, and writes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.auth.api_keys.service import find_key_name
from app.auth.caller import Actor, Environment
from app.billing.service import BillingService
from app.db import Database
from app.holds.ids import place_of, text_of
from app.holds.service import HoldService
from app.ledger.evaluated_limits import find_evaluated
from app.ledger.holds import Hold
from app.ledger.limit_schemas import EvaluatedLimitReply
from app.ledger.moves import Move, moves_at, moves_up_to


class Explainer:
    """Reads for explanations. One per request: it holds nothing."""

    def __init__(self, db: Database, billing: BillingService, holds: HoldService) -> None:
        self._db = db
        self._billing = billing
        self._holds = holds

    async def charge(self, environment: Environment, charge_id: UUID) -> tuple[Mapping[str, Any], list[Move]]:
        """Return the charge's columns and its moves. Raises ChargeNotFound."""
        row = await self._billing.charge_row(environment, charge_id)
        return row, await moves_up_to(self._db, row["account_id"], charge_id, row["entry_no"])

    async def hold(self, environment: Environment, hold_id: str) -> tuple[Hold, list[Move]]:
        """Return a hold, by its id on the wire, and the moves of its opening and settlement. Raises HoldNotFound."""
        hold = await self._holds.find(environment, place_of(hold_id))
        opening = await moves_at(self._db, hold.account_id, [hold.hold_id], hold.created_at)
        if hold.settled_at is None:
            return hold, opening
        causes = [hold.hold_id] if hold.spending_id is None else [hold.hold_id, hold.spending_id]
        settlement = await moves_at(self._db, hold.account_id, causes, hold.settled_at)
        moves = {move.entry_no: move for move in (*opening, *settlement)}  # the two may be close in time
        return hold, [moves[entry_no] for entry_no in sorted(moves)]

    async def captured_hold(self, environment: Environment, row: Mapping[str, Any]) -> Hold | None:
        """Return the hold that a charge captured; None for any other charge, and once its person was erased."""
        hold_id = row["metadata"].get("hold_id")
        if hold_id is None:
            return None
        hold = await self._holds.find(environment, place_of(text_of(row["account_id"], UUID(hold_id))))
        return hold if hold.spending_id == row["charge_id"] else None

    async def limits(self, account_id: UUID, cause_id: UUID) -> list[EvaluatedLimitReply]:
        """Return the limits that allowed a charge or hold."""
        return [EvaluatedLimitReply.of(row) for row in await find_evaluated(self._db, account_id, cause_id)]

    async def caller(self, moves: Sequence[Move]) -> tuple[Actor, str | None] | None:
        """Return the actor of the first move, and the name of its API key."""
        if not moves:
            return None
        actor = moves[0].actor
        if actor.key_id is None:
            return actor, None
        async with self._db.read() as session:
            return actor, await find_key_name(session, actor.key_id)
