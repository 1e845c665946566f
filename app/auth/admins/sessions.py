"""Admin sessions: a signed token names a row, and the row decides (ADR 5)."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import SecretStr

from app.auth.admins import queries
from app.auth.admins.admins import ROLES, Role
from app.auth.caller import Actor
from app.auth.errors import AdminForbidden, AdminUnauthorized, NotAnAdmin, SignInFailed, SignInNotConfigured
from app.db import Database, Session, new_id
from app.settings import Settings

SESSION_FOR = timedelta(hours=8)
RENEW_AFTER = timedelta(minutes=10)
ENDS_AFTER = timedelta(days=7)
"""The longest life of a session, even in constant use."""
KEEP_AFTER_EXPIRY = timedelta(days=30)
ISSUER = "ciris-billing"
ALGORITHMS = ["HS256"]
MAX_TOKEN_CHARS = 4096
MAX_LISTED_SESSIONS = 200
MAX_USER_AGENT_CHARS = 255


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """An admin's authenticated request."""

    admin_id: UUID
    email: str
    role: Role
    session_id: UUID
    created_at: datetime
    expires_at: datetime

    @property
    def actor(self) -> Actor:
        return Actor("admin", str(self.admin_id))

    def require(self, role: Role) -> None:
        """Raise AdminForbidden unless the admin has this role or a higher one."""
        if ROLES.index(self.role) < ROLES.index(role):
            raise AdminForbidden(role)


@dataclass(frozen=True, slots=True)
class AdminSession:
    session_id: UUID
    address: str
    user_agent: str
    created_at: datetime
    expires_at: datetime


class Signer:
    """Signs and reads tokens of one audience, with a key per audience that is derived from the configured secret."""

    def __init__(self, secret: SecretStr, audience: str) -> None:
        self._audience = f"{ISSUER}/{audience}"
        self._digest_key = hmac.digest(secret.get_secret_value().encode(), self._audience.encode(), "sha256")
        self._key = OctKey.import_key(self._digest_key)

    def sign(self, claims: dict[str, Any], *, now: datetime, expires_at: datetime) -> str:
        times = {"iat": int(now.timestamp()), "exp": int(expires_at.timestamp())}
        return jwt.encode({"alg": "HS256"}, {**claims, "iss": ISSUER, "aud": self._audience, **times}, self._key)

    def read(self, token: str, now: datetime) -> dict[str, Any] | None:
        """Return the claims; None if the token is not ours, is for another audience, or has expired."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            claims = jwt.decode(token, self._key, algorithms=ALGORITHMS).claims
            # Stricter than joserfc's claims registry, which accepts a list with the audience and has one leeway for
            # all times. Here `aud` is the text that `sign` wrote, and only `iat` has leeway: processes' clocks differ.
            right = claims["iss"] == ISSUER and claims["aud"] == self._audience
            return claims if right and claims["iat"] - 60 <= now.timestamp() < claims["exp"] else None
        except (JoseError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def digest(self, text: str) -> str:
        return hmac.new(self._digest_key, text.encode(), hashlib.sha256).hexdigest()


class AdminSessions:
    """The admin sessions. One per process. Without a configured secret no one can be signed in."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        secret = settings.admin_session_secret
        self._signer = Signer(secret, "session") if secret is not None else None

    async def caller_of(self, token: str, now: datetime) -> AdminCaller:
        """Return the admin whose session the token names. Raise AdminUnauthorized."""
        claims = self._signer.read(token, now) if self._signer is not None else None
        session_id = _uuid(claims.get("jti")) if claims is not None else None
        row = await queries.find_admin_session(self._db, session_id) if session_id is not None else None
        if row is None or row["revoked_at"] is not None or row["disabled_at"] is not None or row["expires_at"] <= now:
            raise AdminUnauthorized
        names = ("admin_id", "email", "role", "session_id", "created_at", "expires_at")
        return AdminCaller(**{name: row[name] for name in names})

    async def open(
        self, tx: Session, session_id: UUID, email: str, *, address: str, user_agent: str, now: datetime
    ) -> AdminCaller:
        """Start a session. Raise NotAnAdmin, or SignInFailed for a `session_id` that was used before."""
        admin = await queries.find_admin(tx, email)
        if admin is None or admin.disabled_at is not None:
            raise NotAnAdmin
        row = {
            "session_id": session_id,
            "admin_id": admin.admin_id,
            "address": address,
            "user_agent": user_agent[:MAX_USER_AGENT_CHARS],
            "created_at": now,
            "expires_at": now + SESSION_FOR,
        }
        if not await queries.insert_admin_session(tx, row):
            raise SignInFailed("This sign-in has been used already")
        return AdminCaller(admin.admin_id, admin.email, admin.role, session_id, now, now + SESSION_FOR)

    async def open_for_script(self, tx: Session, email: str, *, now: datetime) -> str:
        """Return the token of a new session for a script (`ciris-billing admins token`). Raise NotAnAdmin."""
        caller = await self.open(tx, new_id(), email, address="command line", user_agent="script", now=now)
        return self.token_of(caller, now)

    async def renewed(self, caller: AdminCaller, now: datetime) -> AdminCaller | None:
        """Extend the session and return it, at most once per RENEW_AFTER; return None if that is not due."""
        until = min(now + SESSION_FOR, caller.created_at + ENDS_AFTER)
        if until < caller.expires_at + RENEW_AFTER:
            return None
        async with self._db.transaction() as tx:
            await queries.extend_admin_session(tx, caller.session_id, until)
        return AdminCaller(caller.admin_id, caller.email, caller.role, caller.session_id, caller.created_at, until)

    def token_of(self, caller: AdminCaller, now: datetime) -> str:
        if self._signer is None:
            raise SignInNotConfigured
        claims = {"sub": str(caller.admin_id), "jti": str(caller.session_id)}
        return self._signer.sign(claims, now=now, expires_at=caller.expires_at)

    def csrf_token(self, session_id: UUID) -> str:
        """Return the token that a browser sends as X-CSRF-Token with each write of this session."""
        assert self._signer is not None, "there is no session without a signer"
        return self._signer.digest(f"csrf {session_id}")

    def is_csrf_token(self, session_id: UUID, given: str) -> bool:
        return hmac.compare_digest(self.csrf_token(session_id).encode(), given.encode("utf-8", "replace"))

    async def list(self, db: Session, admin_id: UUID, now: datetime) -> list[AdminSession]:
        rows = await queries.list_admin_sessions(db, admin_id, now, MAX_LISTED_SESSIONS)
        return [AdminSession(r.session_id, r.address, r.user_agent, r.created_at, r.expires_at) for r in rows]

    async def revoke(self, tx: Session, admin_id: UUID, now: datetime, session_id: UUID | None = None) -> int:
        """End one of an admin's sessions, or all. Return their number."""
        return len(await queries.revoke_admin_sessions(tx, admin_id, now, session_id))


async def purge_expired_sessions(tx: Session, *, now: datetime) -> int:
    """Delete sessions that ended long ago, and return their number. Their actions stay in the audit log."""
    return await queries.delete_admin_sessions_expired_before(tx, now - KEEP_AFTER_EXPIRY)


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
