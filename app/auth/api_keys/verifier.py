"""API key verification: Argon2 for the first use in a process, then a digest in memory."""

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from app.auth.api_keys import queries
from app.auth.api_keys.brute_force import FailedAttempts
from app.auth.api_keys.hashing import Argon2
from app.auth.api_keys.keys import KeyFacts, parse_key
from app.auth.cache import InvalidatedCache
from app.auth.caller import Actor, Caller
from app.auth.errors import InvalidApiKey, TooManyAttempts
from app.auth.rate_limits.token_buckets import TokenBuckets
from app.clock import steady_s
from app.db import Database
from app.db.listener import NotificationListener

MAX_CACHED_KEYS = 10_000
WRONG_PER_MINUTE = 10
"""Wrong secrets of one key from one address. FailedAttempts alone, in a single process, never admits so many."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A row of api_keys, and the Caller for it."""

    facts: KeyFacts
    secret_hash: str
    caller: Caller


def _caller(key: KeyFacts) -> Caller:
    return Caller(
        key.environment,
        Actor("api_key", key.key_id),
        key.permissions,
        identity_provider=key.usage.identity_provider,
        source=key.source,
        usage_policy=key.usage.usage_policy,
        debt_limit_nanos=key.usage.debt_limit_nanos,
        max_cost_nanos=key.usage.max_cost_nanos,
        double_charges=key.double_charges,
    )


class KeyVerifier:
    """Verifies key texts: the key exists, works at the time, belongs to the environment, and has this secret.

    Argon2 runs once per key and process. From then on a keyed digest in memory decides. The digest belongs to the
    Argon2 hash that it was verified against, so it stays valid when other columns of the row change.

    Rows are cached while the notification listener is current, so a change takes effect within 1 s of its commit. While
    it is not, each request reads its row.

    Wrong secrets are limited per key and sender's address, and never lock the key for other addresses. FailedAttempts
    makes the sender wait longer and longer in this process. A bucket of `buckets` bounds the wrong secrets per minute:
    if processes share the buckets, more processes do not allow more guesses.
    """

    def __init__(self, db: Database, listener: NotificationListener, argon2: Argon2, buckets: TokenBuckets) -> None:
        self._db = db
        self._listener = listener
        self._argon2 = argon2
        self._attempts = FailedAttempts()
        self._buckets = buckets
        self._keys: InvalidatedCache[str, KnownKey] = InvalidatedCache(MAX_CACHED_KEYS)
        self._digest_key = secrets.token_bytes(64)
        self._verified: OrderedDict[str, tuple[str, bytes]] = OrderedDict()  # key id -> (hash, digest)
        self._under_way: dict[tuple[str, bytes], asyncio.Task[None]] = {}

    async def verify(self, text: str, address: str, now: datetime) -> KnownKey:
        """Return the key if `text` is right and the key works at `now`. Failures are counted per `address`.

        Raise InvalidApiKey, TooManyAttempts, or Busy if too many keys wait for their first verification.
        """
        parsed = parse_key(text)
        if parsed is None:
            raise InvalidApiKey("malformed")
        environment, key_id = parsed
        key = await self.working_key(key_id, now)
        if key.facts.environment != environment:
            raise InvalidApiKey("other environment")
        digest = hashlib.blake2b(text.encode(), key=self._digest_key, digest_size=32).digest()
        if not self._is_verified(key, digest):
            await self._verify_once(key, text, digest, address)
            key = await self.working_key(key_id, now)  # it may have been revoked while Argon2 ran
        return key

    def forget(self, key_id: str) -> None:
        """Handle a notification: the key's row changed."""
        self._keys.forget(key_id)

    def forget_all(self) -> None:
        self._keys.forget_all()

    async def stop(self) -> None:
        """Cancel verifications under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def working_key(self, key_id: str, now: datetime) -> KnownKey:
        """Return the key, whose text was verified before. Raise InvalidApiKey unless it works at `now`."""
        key = self._keys.get(key_id) if self._listener.is_current(steady_s()) else None
        if key is None:
            key = await self._keys.load(key_id, self._read)
        if key is None:
            raise InvalidApiKey("unknown")
        if not key.facts.works(now):
            raise InvalidApiKey(key.facts.status(now))
        return key

    async def _read(self, key_id: str) -> KnownKey | None:
        found = await queries.find_key(self._db, key_id)
        if found is None:
            return None
        facts, secret_hash = found
        return KnownKey(facts, secret_hash, _caller(facts))

    def _is_verified(self, key: KnownKey, digest: bytes) -> bool:
        known = self._verified.get(key.facts.key_id)
        if known is None or known[0] != key.secret_hash or not hmac.compare_digest(known[1], digest):
            return False
        self._verified.move_to_end(key.facts.key_id)
        return True

    async def _verify_once(self, key: KnownKey, text: str, digest: bytes, address: str) -> None:
        """Join a run of Argon2 for the same text, or start one. A cancelled caller does not end it for the others."""
        task = self._under_way.get((key.secret_hash, digest))
        if task is None:
            task = asyncio.create_task(self._run_argon2(key, text, digest, address))
            self._under_way[key.secret_hash, digest] = task
            task.add_done_callback(lambda done: self._finish((key.secret_hash, digest), done))
        await asyncio.shield(task)

    def _finish(self, what: tuple[str, bytes], done: "asyncio.Task[None]") -> None:
        del self._under_way[what]
        if not done.cancelled():
            done.exception()  # retrieved, so that asyncio does not report it when all callers were cancelled

    async def _run_argon2(self, key: KnownKey, text: str, digest: bytes, address: str) -> None:
        key_id, clock = key.facts.key_id, steady_s
        bucket = f"wrong secrets {key_id} {address}"
        wait_s = self._buckets.wait_s(bucket, WRONG_PER_MINUTE, clock())
        wait_s = wait_s or self._attempts.begin(key_id, address, clock())
        if wait_s:
            raise TooManyAttempts(retry_after_s=wait_s)
        try:
            right = await self._argon2.verify(key.secret_hash, text)
        except BaseException:
            self._attempts.undecided(key_id, address)
            raise
        if not right:
            self._buckets.take(bucket, WRONG_PER_MINUTE, clock())
            raise InvalidApiKey("wrong secret")
        self._attempts.succeeded(key_id, address)
        self._verified[key_id] = (key.secret_hash, digest)
        self._verified.move_to_end(key_id)
        if len(self._verified) > MAX_CACHED_KEYS:
            self._verified.popitem(last=False)
