"""Reporting: from a caller's request to events of accounts, for each of the routes that accept events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from app.accounts.directory import AccountDirectory, Identity, Profile
from app.accounts.many import accounts_of, for_all
from app.auth.caller import Caller, Permission, UsagePolicy
from app.errors import AppError, InvalidRequest
from app.http.service_name import UNKNOWN, service_name
from app.metering.attribution import HEADERS
from app.metering.errors import InsufficientMoney
from app.metering.events import Outcome, Rejected, Terms, Unpaid, UsageEvent
from app.metering.refusing import insufficient_money
from app.metering.service import UsageService
from app.metering.usage_schemas import EventFields, UsageBody

_BODY: TypeAdapter[UsageBody] = TypeAdapter(UsageBody)


class Reported(NamedTuple):
    """An event and its user."""

    identity: Identity
    profile: Profile
    event: UsageEvent


class Reporter:
    """Records the events of one request."""

    def __init__(self, request: Request, caller: Caller, now: datetime, *, policy: UsagePolicy | None = None) -> None:
        state = request.app.state
        self._usage: UsageService = state.usage
        self._directory: AccountDirectory = state.accounts.directory
        self._caller = caller
        self._now = now
        name = service_name(request)
        self.service_name = None if name == UNKNOWN else name
        self.headers = {name: value for name in HEADERS if (value := request.headers.get(name)) is not None}
        may_state = Permission.USAGE_SET_COST in caller.permissions
        limit = caller.debt_limit_nanos
        self._terms = Terms(
            actor=caller.actor,
            at=now,
            policy=policy or caller.usage_policy,
            debt_limit_nanos=self._usage.default_debt_limit_nanos if limit is None else limit,
            max_stated_nanos=(caller.max_cost_nanos or 0) if may_state else 0,
        )

    def reported(self, body: UsageBody) -> Reported:
        """Return the event of a body. Raises the AppError that refuses it."""
        self._require_permission(body)
        event = body.event(self._caller.source, self.service_name, self.headers)
        # The agent is the event's: a user may have many.
        profile = body.profile(self._caller)._replace(agent_id=None)
        return Reported(body.identity(self._caller), profile, event)

    def parsed(self, item: Any) -> Reported | AppError:
        """Return the event of a batch's item, or the error that refuses it."""
        try:
            return self.reported(_BODY.validate_python(item))
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            return InvalidRequest(f"{field}: {first['msg']}" if field else first["msg"], field=field or None)
        except AppError as error:
            return error

    def _require_permission(self, body: EventFields) -> None:
        if body.stated() is not None:
            self._caller.require(Permission.USAGE_SET_COST)

    async def record(self, reported: Reported) -> Outcome:
        """Record one event. Creates a missing account."""
        return await self._usage.record_one(await self._account_of(reported), reported.event, self._terms)

    async def refusal(self, reported: Reported, unpaid: Unpaid) -> InsufficientMoney:
        """Return the error of an event that was not paid, with its remedies."""
        return insufficient_money(unpaid, await self._usage.remedies(unpaid, reported.event, self._now))

    async def record_all(self, items: Sequence[Reported | AppError]) -> list[Outcome]:
        """Record events, those of one account in their order. The outcome of an error is a rejection.

        Raises UpgradeInProgress before anything is recorded.
        """
        await self._usage.require_upgraded()
        users = [(item.identity, item.profile) for item in items if isinstance(item, Reported)]
        accounts = await accounts_of(self._directory, users, self._caller.actor, self._now)
        outcomes: dict[int, Outcome] = {}
        places: dict[UUID, list[tuple[int, UsageEvent]]] = {}
        for place, item in enumerate(items):
            found = accounts[item.identity] if isinstance(item, Reported) else item
            if isinstance(item, Reported) and isinstance(found, UUID):
                places.setdefault(found, []).append((place, item.event))
            else:
                assert isinstance(found, AppError)
                outcomes[place] = Rejected(found)

        async def record(account_id: UUID) -> None:
            theirs = places[account_id]
            recorded = await self._usage.record(account_id, [event for _, event in theirs], self._terms)
            outcomes.update(zip((place for place, _ in theirs), recorded, strict=True))

        await for_all(record, places)
        return [outcomes[place] for place in range(len(items))]

    async def _account_of(self, item: Reported) -> UUID:
        account_id, _ = await self._directory.find_or_create(
            item.identity, self._caller.actor, self._now, profile=item.profile
        )
        return account_id
