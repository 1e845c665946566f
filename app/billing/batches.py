"""Batches of charges: from one request to charges of many accounts, each with its own result.

A batch is not atomic. The charges of one account are decided in their order, by the same code as single charges, in
transactions of at most ROUND charges, so that others get their turn in between.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from app.accounts.directory import Identity, Profile
from app.accounts.many import accounts_of, for_all
from app.auth.caller import Caller
from app.billing.posting import Charge, ChargeSeries
from app.billing.schemas import ChargeBody, ChargeReply, ReplayedCharge
from app.billing.service import BillingService
from app.errors import AppError, error_body, failure_of, fields_of
from app.ledger.outcomes import New, Outcome, Refused, Replayed
from app.ledger.pools import Shortfall

CREATED, REPLAY = 201, 409
CHARGE_EXISTS = "charge_exists"
ROUND = 128
"""Charges of a batch that are decided at the same time. The next ones wait for them, behind other callers' charges."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one charge: the status and body that the single route would have."""

    status: int
    body: dict[str, Any]
    double_of: UUID | None = None
    """The charge that a new one probably repeats."""

    @property
    def is_replay(self) -> bool:
        return self.status == REPLAY and self.body["code"] == CHARGE_EXISTS


@dataclass(frozen=True, slots=True)
class _Item:
    """A charge of the batch that parses. `place` is its index."""

    place: int
    body: ChargeBody
    identity: Identity
    profile: Profile


class ChargeBatch:
    """Decides the charges of one request."""

    def __init__(
        self, billing: BillingService, caller: Caller, now: datetime, note_refusal: Callable[[AppError, UUID], None]
    ) -> None:
        self._billing = billing
        self._note_refusal = note_refusal
        self._caller = caller
        self._now = now
        self._results: dict[int, Result] = {}
        self._decided: dict[UUID, list[tuple[_Item, Outcome[Charge]]]] = {}
        self._broken: dict[UUID, AppError] = {}
        """Accounts with a failed transaction. Their later charges are not tried, so that their order stays."""

    async def run(self, charges: Sequence[Any]) -> list[Result]:
        """Decide all charges. Creates missing accounts. The result of a charge that could not be decided is an error.

        Each commit is final, also when this call is cancelled.
        """
        items = [item for place, sent in enumerate(charges) if (item := self._parsed(place, sent)) is not None]
        directory = self._billing.accounts.directory
        users = ((item.identity, item.profile) for item in items)
        accounts = await accounts_of(directory, users, self._caller.actor, self._now)
        for first in range(0, len(items), ROUND):
            series: dict[UUID, list[_Item]] = {}
            for item in items[first : first + ROUND]:
                account = accounts[item.identity]
                if isinstance(account, UUID):
                    series.setdefault(account, []).append(item)
                else:
                    self._fail([item], account)
            await asyncio.gather(*(self._decide(*entry) for entry in series.items()))
        await for_all(self._answer, self._decided)
        return [self._results[place] for place in range(len(charges))]

    def _parsed(self, place: int, sent: Any) -> _Item | None:
        """Return a charge of the batch. None: it is malformed, and has its result."""
        try:
            body = ChargeBody.model_validate(sent, from_attributes=True)  # as FastAPI does, with its messages
            return _Item(place, body, body.identity(self._caller), body.profile(self._caller))
        except ValidationError as invalid:
            fields = fields_of(invalid.errors(include_url=False, include_input=False), "body")
            self._results[place] = Result(422, error_body(fields, "validation_error"))
        except AppError as error:
            self._results[place] = result_of(error)
        return None

    def _fail(self, items: Iterable[_Item], error: AppError) -> None:
        for item in items:
            self._results[item.place] = result_of(error)

    async def _decide(self, account_id: UUID, items: Sequence[_Item]) -> None:
        """Decide charges of one account, in their order."""
        try:
            if account_id in self._broken:
                raise self._broken[account_id]
            actor, now = self._caller.actor, self._now
            policy = self._caller.double_charges
            charges = [item.body.request(account_id, actor, now, item.body.idempotency_key, policy) for item in items]
            outcomes = await self._billing.charge_in_order(ChargeSeries(account_id, charges))
            self._decided.setdefault(account_id, []).extend(zip(items, outcomes, strict=True))
        except Exception as error:
            self._broken[account_id] = failure_of(error)
            self._fail(items, self._broken[account_id])

    async def _answer(self, account_id: UUID) -> None:
        """Store the results of an account's charges, and the profiles that they contain."""
        decided = self._decided[account_id]
        for item, outcome in decided:
            match outcome:
                case New(charge):
                    body = ChargeReply.of(charge).model_dump(mode="json")
                    self._results[item.place] = Result(CREATED, body, charge.double_of)
                case Replayed(charge):
                    problem = error_body("Charge already exists", CHARGE_EXISTS)
                    body = ReplayedCharge.of(charge, **problem).model_dump(mode="json")
                    self._results[item.place] = Result(REPLAY, body)
                case Refused(error):
                    self._refuse(account_id, item, error)
        refused = [(item, outcome) for item, outcome in decided if isinstance(outcome, Shortfall)]
        try:
            await self._refuse_unpaid(account_id, refused)
        except Exception as error:
            self._fail((item for item, _ in refused), failure_of(error))
        try:
            await self._note_profiles(account_id, decided)
        except Exception as error:
            failure_of(error)  # logged: the charges are recorded, also if the profile is not

    def _refuse(self, account_id: UUID, item: _Item, error: AppError) -> None:
        self._fail([item], error)
        if error.kept_figures is not None:
            self._note_refusal(error, account_id)

    async def _refuse_unpaid(self, account_id: UUID, refused: Sequence[tuple[_Item, Shortfall]]) -> None:
        if refused:
            errors = await self._billing.refusals(account_id, [shortfall for _, shortfall in refused], self._now)
            for (item, _), error in zip(refused, errors, strict=True):
                self._refuse(account_id, item, error)

    async def _note_profiles(self, account_id: UUID, decided: Sequence[tuple[_Item, Outcome[Charge]]]) -> None:
        """Store each profile that differs from the one before, as the single route does. Replays write nothing."""
        noted = None
        for item, outcome in decided:
            if not isinstance(outcome, Replayed) and item.profile != noted:
                noted = item.profile
                await self._billing.accounts.directory.note_profile(account_id, noted, self._now)


def result_of(error: AppError) -> Result:
    return Result(error.status, {**error_body(error.detail, error.code), **error.figures})
