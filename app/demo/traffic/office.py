"""The staff: their API keys, their colleagues, and their actions on users, all by the routes that the pages call.

Each action has its own time, and is in the audit log once done: so it is done exactly once, even after interruptions.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from starlette.requests import Request

from app.admin.admins.router import change, invite
from app.admin.admins.schemas import AdminBody, AdminChange
from app.admin.api_keys.router import create_api_key, revoke_api_key, rotate_api_key
from app.admin.api_keys.schemas import KeyBody
from app.admin.audit.log import Admin
from app.admin.purchases.router import refund_purchase
from app.admin.purchases.schemas import RefundBody
from app.admin.users.credits import adjust_credits
from app.admin.users.router import close_user, reopen_user, suspend_user
from app.admin.users.schemas import AdjustBody, StatusBody
from app.auth.admins.admins import add_admin, list_admins
from app.auth.admins.sessions import AdminCaller, AdminSessions
from app.auth.api_keys.service import list_keys
from app.auth.caller import Permission
from app.db import new_id
from app.demo.data import PROVIDER
from app.demo.stand_ins import HEAD, SUPPORT, VIEWER
from app.demo.traffic.events import Adjusted, StatusSet
from app.demo.traffic.money import ROUTER, ROUTER_SOURCE, TOOL_SERVER, TOOLS_SOURCE
from app.demo.traffic.past import Past
from app.demo.traffic.people import AGENTS, DAYS
from app.demo.traffic.spending import DEBT_LIMIT, MONEY_KEY
from app.settings import Settings

ADDRESSES = {HEAD: "198.51.100.17", SUPPORT: "198.51.100.42"}  # networks reserved for documentation (RFC 5737)
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/146.0"
FORMER = "leo@ciris.ai"
TOOLS_KEY, LLM_KEY, ROTATED_KEY, REVOKED_KEY = "Tool proxy", "LLM proxy", "Sage (web)", "Datum (old server)"
READ, WRITE, CREDIT = Permission.READ, Permission.WRITE, Permission.CREDIT
USAGE = (Permission.USAGE_READ, Permission.USAGE_WRITE)
Step = tuple[datetime, Callable[[], Awaitable[None]]]
STATUS_ROUTES = {"suspend": suspend_user, "reopen": reopen_user, "close": close_user}


@dataclass(slots=True)
class Office:
    past: Past
    until: datetime

    @property
    def begins(self) -> datetime:
        """The time of the first step, before the first user."""
        return self.until - timedelta(days=DAYS + 1)

    def steps(self) -> list[Step]:
        """Return the staff's actions on keys and colleagues, in order."""
        day, begins = timedelta(days=1), self.begins
        colleagues = ((SUPPORT, "support"), (VIEWER, "viewer"), (FORMER, "support"))
        return [
            (begins, self._open),
            *(
                (begins + timedelta(minutes=minutes), partial(self._invite, email, role))
                for minutes, (email, role) in enumerate(colleagues, start=1)
            ),
            *(
                (begins + timedelta(minutes=minutes), partial(self._create_key, body))
                for minutes, body in enumerate(self._keys(), start=10)
            ),
            (begins + 16 * day, self._dismiss),
            (begins + 20 * day, partial(self._end_key, REVOKED_KEY)),
            (begins + 24 * day, partial(self._rotate_key, ROTATED_KEY)),
        ]

    def _keys(self) -> list[KeyBody]:
        def key(name: str, *permissions: Permission, **more: Any) -> KeyBody:
            return KeyBody(environment=more.pop("environment", "live"), name=name, permissions=set(permissions), **more)

        return [
            *(key(agent.key_name, READ, WRITE) for agent in AGENTS),
            key(TOOLS_KEY, READ, WRITE, rate_limit_per_minute=12_000),
            key(LLM_KEY, WRITE, ip_allow_list=[ip_network("203.0.113.0/24")]),
            key(ROUTER, *USAGE, identity_provider=PROVIDER, event_source=ROUTER_SOURCE),
            key(
                TOOL_SERVER,
                *USAGE,
                identity_provider=PROVIDER,
                event_source=TOOLS_SOURCE,
                usage_policy="debt",
                debt_limit_nanos=DEBT_LIMIT,
            ),
            key(MONEY_KEY, Permission.MONEY_CREDIT, identity_provider=PROVIDER),
            key("Referral programme", READ, CREDIT),
            key(REVOKED_KEY, READ, WRITE),
            key("Partner trial", READ, expires_at=self.begins + timedelta(days=14)),
            key("Continuous integration", READ, WRITE, CREDIT, environment="test"),
        ]

    async def key_ids(self) -> dict[tuple[str, str], list[tuple[datetime, str]]]:
        """Return the key ids by (environment, name), newest first, with the time from which each was in use."""
        found: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
        async with self.past.db.read() as session:
            for key in await list_keys(session):
                found.setdefault((key.environment, key.name), []).append((key.created_at, key.key_id))
        return found

    # --- keys and colleagues ---

    async def _open(self) -> None:
        """Add the first admin, as `ciris-billing admins add` does."""
        async with self.past.db.transaction() as tx:
            if HEAD not in [admin.email for admin in await list_admins(tx)]:
                await add_admin(tx, HEAD, "admin", now=self.begins)

    async def _invite(self, email: str, role: Any) -> None:
        await self._act(
            HEAD, lambda admin: invite(AdminBody(email=email, role=role), self._request, admin, self.past.db)
        )

    async def _dismiss(self) -> None:
        async with self.past.db.read() as session:
            former = next(admin for admin in await list_admins(session) if admin.email == FORMER)
        await self._act(HEAD, lambda admin: change(former.admin_id, AdminChange(disabled=True), admin, self.past.db))

    async def _create_key(self, body: KeyBody) -> None:
        await self._act(HEAD, lambda admin: create_api_key(body, admin, self.past.db))

    async def _end_key(self, name: str) -> None:
        key_id = (await self.key_ids())["live", name][0][1]
        await self._act(HEAD, lambda admin: revoke_api_key(key_id, admin, self.past.db))

    async def _rotate_key(self, name: str) -> None:
        key_id = (await self.key_ids())["live", name][-1][1]
        await self._act(HEAD, lambda admin: rotate_api_key(key_id, self._request, admin, self.past.db))

    # --- users ---

    async def set_status(self, event: StatusSet, account_id: UUID) -> None:
        route, body = STATUS_ROUTES[event.action], StatusBody(reason=event.reason)
        email = HEAD if event.action == "close" else SUPPORT
        past, limits = self.past, self._settings
        await self._act(email, lambda admin: route(account_id, body, admin, limits, past.db, past.billing))

    async def adjust(self, event: Adjusted, account_id: UUID) -> None:
        body = AdjustBody(credits=event.credits, reason=event.reason, idempotency_key=f"adjust {event.at.isoformat()}")
        past, limits = self.past, self._settings
        await self._act(SUPPORT, lambda admin: adjust_credits(account_id, body, admin, limits, past.db, past.billing))

    async def refund(self, account_id: UUID, purchase_id: UUID, amount_minor: int | None, reason: str) -> None:
        """Refund. The audit entry precedes the call to Stripe; after an interruption the call is repeated."""
        body = RefundBody(amount_minor=amount_minor, reason=reason, idempotency_key=str(purchase_id))
        payments = self.past.payments
        if not await self._act(HEAD, lambda admin: refund_purchase(purchase_id, body, admin, self.past.db, payments)):
            await payments.refund(account_id, purchase_id, amount_minor, body.idempotency_key, self.past.now)

    # --- helpers ---

    @property
    def _settings(self) -> Settings:
        settings: Settings = self.past.app.state.settings
        return settings

    @property
    def _request(self) -> Request:
        return Request({"type": "http", "app": self.past.app})

    async def _act(self, email: str, action: Callable[[Admin], Awaitable[object]]) -> bool:
        """Sign in and act. Return False if the action was done before."""
        now = self.past.now
        async with self.past.db.read() as session:
            done = await session.execute(text("SELECT 1 FROM admin_audit_log WHERE created_at = :now"), {"now": now})
            if done.first() is not None:
                return False
        await action(await self._admin(email, now))
        return True

    async def _admin(self, email: str, now: datetime) -> Admin:
        structlog.contextvars.bind_contextvars(request_id=new_id().hex)
        sessions = AdminSessions(self.past.db, self.past.settings)
        async with self.past.db.transaction() as tx:
            caller: AdminCaller = await sessions.open(
                tx, new_id(), email, address=ADDRESSES[email], user_agent=USER_AGENT, now=now
            )
        return Admin(caller, ADDRESSES[email], now)
