"""Account directory: maps identities to accounts, creates accounts, and stores the profiles that requests carry."""

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import astuple, dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple
from uuid import UUID

import structlog

from app.accounts import queries
from app.accounts.default_limits import DefaultLimits
from app.accounts.returning import IdentityDigests
from app.auth.cache import InvalidatedCache
from app.auth.caller import Actor, Environment
from app.clock import steady_s
from app.configuration.sections import Defaults
from app.configuration.service import Configuration
from app.currencies import CURRENCIES
from app.db import Database, new_id
from app.db.listener import NotificationListener
from app.errors import Busy, is_database_unavailable
from app.ledger.errors import UnknownCurrency
from app.ledger.group_commit import GroupCommit
from app.ledger.limit_queries import insert_limits
from app.ledger.limits import Limit
from app.ledger.locked_account import Cause, Kind, LockedAccount, write_new

CACHED_IDENTITY_BYTES = 64 * 2**20
CACHED_IDENTITY_ENTRY_BYTES = 320
"""Upper bound of one entry: a digest, an id and their dictionary slots. It does not depend on the name's length."""
IDENTITIES_CHANNEL = "account_identities"
SHARED_LOCK_TIMEOUT_MS = 250
"""Longest wait of a batch of creations for another process. After that, each creation waits alone."""
LANES = 2  # a batch that waits for another process delays only half of the others
MAX_TRIES = 5  # attempts to create an account whose identity is repeatedly erased at the same time
Existed = Literal["existed"]
EXISTED: Existed = "existed"
_DIGEST_KEY = os.urandom(32)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """The payer: an external user in the live or the test environment."""

    environment: Environment
    oauth_provider: str
    external_id: str

    def digest(self) -> bytes:
        """Return a 128-bit digest that identifies this identity within this process.

        The digest is keyed, so callers cannot search for two identities that share one. Each part is prefixed with its
        length, so no characters in a part can imitate another identity.
        """
        parts = (self.environment, self.oauth_provider, self.external_id)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=_DIGEST_KEY).digest()


class Profile(NamedTuple):
    """Attributes of the person in a request. None means "not given" and changes nothing."""

    wa_id: str | None = None
    tenant_id: str | None = None
    customer_email: str | None = None
    display_name: str | None = None
    user_role: str | None = None
    agent_id: str | None = None
    marketing_opt_in: bool | None = None
    marketing_opt_in_source: str | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in zip(self._fields, self, strict=True) if value is not None}


@dataclass(frozen=True, slots=True)
class Opening:
    """Initial values of a new account, in addition to its free uses."""

    paid: int = 0
    currency: str | None = None
    plan_name: str | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """A request to create the account of an identity that had none at the last read, with the person's profile."""

    identity: Identity
    profile: Profile
    opening: Opening
    actor: Actor
    at: datetime


class AccountDirectory:
    """Finds the account of an identity, and creates it if there is none.

    A mapping ends only when its person is erased. An answer may be up to a second out of date: it then names an account
    that is permanently closed, so every operation on it is rejected.
    """

    def __init__(self, db: Database, configuration: Configuration) -> None:
        self._db = db
        self._configuration = configuration
        self._digests = IdentityDigests.of(configuration.settings)
        self.default_limits = DefaultLimits.of(db, configuration)
        self._listener: NotificationListener | None = None
        self._admit: Callable[[UUID], None] = lambda _: None
        self._creations: GroupCommit[Creation, UUID | Existed] = GroupCommit(
            self._create_together, db.lock_waiters, name="accounts", lanes=LANES
        )
        self._ids: InvalidatedCache[bytes, UUID] = InvalidatedCache(
            CACHED_IDENTITY_BYTES // CACHED_IDENTITY_ENTRY_BYTES
        )

    def listen(self, listener: NotificationListener) -> None:
        """Answer from memory while `listener` is current. Call it before the start. Without it, every call reads."""
        self._listener = listener
        # Notifications do not name the identity. Persons are erased rarely, so forgetting all entries costs little.
        listener.subscribe(IDENTITIES_CHANNEL, lambda _: self._ids.forget_all(), self._ids.forget_all)

    def limit(self, admit: Callable[[UUID], None]) -> None:
        """Call `admit` with each account that a request names. It raises when there were too many requests."""
        self._admit = admit

    async def find(self, identity: Identity) -> UUID | None:
        """Return the account of the identity, or None. Raises the errors of the function given to `limit`."""
        account_id = await self._find(identity)
        if account_id is None and (folded := self._folded(identity)) != identity:
            account_id = await self._find(folded)
        if account_id is not None:
            self._admit(account_id)
        return account_id

    def _folded(self, identity: Identity) -> Identity:
        """Return the spelling in which a new account is stored. An account with the exact spelling takes precedence."""
        provider, external_id = self._configuration.folded_providers.fold(identity.oauth_provider, identity.external_id)
        return Identity(identity.environment, provider, external_id)

    async def _find(self, identity: Identity) -> UUID | None:
        async def read(_: bytes) -> UUID | None:
            return await queries.find_account_id(
                self._db, identity.environment, identity.oauth_provider, identity.external_id
            )

        if self._listener is None:
            found = await read(b"")
        else:
            name = identity.digest()
            current = self._listener.is_current(steady_s())
            found = self._ids.get(name) if current else None
            if found is None:
                found = await self._ids.load(name, read)
        if found is not None:
            structlog.contextvars.bind_contextvars(account_id=str(found))
        return found

    async def find_or_create(
        self,
        identity: Identity,
        actor: Actor,
        now: datetime,
        opening: Opening | None = None,
        profile: Profile | None = None,
    ) -> tuple[UUID, bool]:
        """Return the account's id and whether this call created it, in a committed transaction. Safe under races.

        A new account begins with `opening` and `profile`. An existing one is not changed. Concurrent creations share a
        transaction. Raises Busy, and UnknownCurrency for a new account in a currency that Stripe does not charge.
        """
        for _ in range(MAX_TRIES):
            if (found := await self.find(identity)) is not None:
                return found, False
            if opening is not None and opening.currency is not None and opening.currency not in CURRENCIES:
                raise UnknownCurrency(opening.currency)
            new = self._folded(identity)
            creation = Creation(new, profile or Profile(), opening or Opening(), actor, now)
            created = await self._creations.run(creation, UUID(bytes=new.digest()), may_repeat=True)
            if isinstance(created, UUID):
                structlog.contextvars.bind_contextvars(account_id=str(created))
                return created, True
            # Another request created it and has committed. The next read finds it, unless it was erased since.
        raise Busy

    async def stop(self) -> None:
        """Wait for the transactions under way."""
        await self._creations.stop()

    async def _create_together(self, creations: Sequence[Creation], skip_locked: bool) -> list[UUID | Existed]:
        """Create the accounts of all identities that have none, in one transaction and at most five statements.

        The first creation of an identity counts. The outcome of a repeated one, and of an identity with an account, is
        EXISTED. Waits for another transaction that creates the same account, even with `skip_locked`: then for a
        shorter time, because the rest of the batch waits too.
        """
        defaults = (await self._configuration.current()).defaults
        firsts = {creation.identity: creation for creation in reversed(creations)}
        ordered = sorted(firsts.values(), key=lambda creation: astuple(creation.identity))
        ids = self._new_ids(ordered)
        limited = {p for p in self.default_limits.by_provider if await self.default_limits.are_for(p)}
        async with self._db.batch(lock_timeout_ms=SHARED_LOCK_TIMEOUT_MS if skip_locked else None) as tx:
            created = await queries.insert_identities(
                tx, [astuple(identity) for identity in ids], list(ids.values()), [c.at for c in ordered]
            )
            new = [creation for creation in ordered if ids[creation.identity] in created]
            if new:
                returning = await self._digests.returning(tx, [astuple(creation.identity) for creation in new])
                opened = [
                    _opened(ids[c.identity], c, defaults, is_returning=astuple(c.identity) in returning) for c in new
                ]
                limits = self._limits_of(opened, new, limited)
                await write_new(tx, opened)
                if limits:
                    await insert_limits(tx, limits)
            if profiles := [_new_profile(ids[c.identity], c) for c in new if c.profile.given()]:
                await queries.insert_profiles(tx, profiles)
        by_creation = {id(creation): ids[creation.identity] for creation in new}
        return [by_creation.get(id(creation), EXISTED) for creation in creations]

    def _limits_of(
        self, opened: Sequence[LockedAccount], creations: Sequence[Creation], limited: Set[str]
    ) -> list[Limit]:
        """Return the default limits of new accounts, and note on them that they have some."""
        limits: list[Limit] = []
        for account, creation in zip(opened, creations, strict=True):
            provider = creation.identity.oauth_provider
            if provider in limited:
                account.has_limits = True
                limits += self.default_limits.limits_of(account, provider, creation.at)
        return limits

    def _new_ids(self, creations: Sequence[Creation]) -> dict[Identity, UUID]:
        return {creation.identity: new_id() for creation in creations}

    async def resolve(self, identity: Identity, profile: Profile, actor: Actor, now: datetime) -> UUID:
        """Return the identity's account. Create it if it is missing, and record the person's profile."""
        account_id, created = await self.find_or_create(identity, actor, now, profile=profile)
        if not created:
            await self.record_profile(account_id, profile, now)
        return account_id

    async def record_profile(self, account_id: UUID, profile: Profile, now: datetime) -> None:
        """Store the attributes of `profile` that differ from the stored ones. Consent keeps its time and source.

        Writes nothing when all are known, and stores nothing about a person who was erased.
        """
        given = profile.given()
        if not given:
            return
        changes = profile_changes(given, await queries.find_profile(self._db, account_id) or {}, now)
        if changes:
            async with self._db.transaction() as tx:
                if await queries.lock_person(tx, account_id):
                    await queries.upsert_profile(tx, account_id, changes, now)

    async def note_profile(self, account_id: UUID, profile: Profile, now: datetime) -> None:
        """As `record_profile`, for a check or a committed charge. Does not fail while the database accepts no writes.

        The profile then stays unchanged until another request sends it.
        """
        try:
            await self.record_profile(account_id, profile, now)
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            log.warning("profile_not_recorded", error=type(error).__name__)


def _opened(account_id: UUID, creation: Creation, defaults: Defaults, *, is_returning: bool) -> LockedAccount:
    """Return a new account with its opening grants posted. Nothing is stored yet.

    A returning user gets no one-time free uses, and daily ones from the next day.
    """
    account = LockedAccount(
        account_id=account_id,
        environment=creation.identity.environment,
        currency=creation.opening.currency or defaults.currency,
        plan_name=creation.opening.plan_name or defaults.plan_name,
        status="active",
        status_reason=None,
        balances={"daily_free": 0, "free": 0, "paid": 0, "debt": 0},
        daily_free_day=creation.at.date() if is_returning else None,
        total_uses=0,
        last_entry_no=0,
        created_at=creation.at,
        updated_at=creation.at,
        is_returning=is_returning,
    )
    cause = Cause("account", account_id)
    free = 0 if is_returning else defaults.free_uses
    account.post("free", free, Kind.OPENING_GRANT, cause, creation.actor, creation.at)
    account.post("paid", creation.opening.paid, Kind.OPENING_GRANT, cause, creation.actor, creation.at)
    return account


def _new_profile(account_id: UUID, creation: Creation) -> dict[str, Any]:
    changes = profile_changes(creation.profile.given(), {}, creation.at)
    return {"account_id": account_id, "updated_at": creation.at, **changes}


def profile_changes(given: Mapping[str, Any], known: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns to write. A consent that is given or withdrawn gets its time and its source."""
    changes = {name: value for name, value in given.items() if known.get(name) != value}
    if "marketing_opt_in" in changes:
        changes["marketing_opt_in_at"] = now
        changes["marketing_opt_in_source"] = given.get("marketing_opt_in_source")
    else:
        changes.pop("marketing_opt_in_source", None)  # without a change of consent, a source has nothing to describe
    return changes
