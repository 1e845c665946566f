"""Finding users, whatever their names are and however many they are; what else a correction does or refuses."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from app.admin import user_reports
from app.auth.admin_sessions import AdminSessions
from app.auth.admins import add_admin
from app.auth.caller import Environment, Permission
from app.billing.accounts import Identity, Opening, Profile
from app.billing.pools import Credits
from app.billing.service import BillingService
from app.db import Database, Session
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.books import account_locked, balances, connected
from tests.conftest import ACTOR, make_key, running_app, settings_for
from tests.databases import Urls, create_database, drop_database

USERS = "/admin/users"
NOBODY = UUID(int=7)
PERSONAL = ("customer_email", "display_name", "external_id")
MANY = 200_000
EVERY = {"suspended": 1000, "debt": 2000}
"""One account in so many is that."""
REPETITIONS = 12
"""More than the five after which PostgreSQL may plan a prepared statement without looking at its values."""


async def account(
    office: Office,
    external_id: str | None = None,
    *,
    environment: Environment = "live",
    plan_name: str | None = None,
    paid: int = 0,
    **profile: Any,
) -> UUID:
    """A new account."""
    billing: BillingService = office.app.state.billing
    now = datetime.now(UTC)
    identity = Identity(environment, "oauth:google", external_id or f"{uuid.uuid4()}@example.com")
    account_id, created = await billing.get_or_create_account(
        identity, Profile(**profile), Opening(paid=paid, plan_name=plan_name), ACTOR, now
    )
    assert created
    return account_id


async def found(client: httpx.AsyncClient, **params: Any) -> set[UUID]:
    """The accounts on all pages."""
    ids: list[UUID] = []
    cursor: dict[str, str] = {}
    for _ in range(1000):
        answer = await client.get(USERS, params={"limit": 100, **params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [UUID(user["account_id"]) for user in page["users"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(ids) == len(set(ids))
    assert ids == sorted(ids, reverse=True)
    return set(ids)


async def audit_of(office: Office, account_id: UUID) -> list[dict[str, Any]]:
    return await office.rows("SELECT * FROM admin_audit_log WHERE target_id = $1 ORDER BY audit_id", str(account_id))


# --- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "100%_sure\\",
        "%",
        "__init__",
        "back\\slash",
        "'; DROP TABLE accounts; --",
        "O'Neill",
        "\u00c4rztin",
        "\u0130stanbul",
        "\u540d\u524d",
        ":name",
        "a ",
    ],
)
@pytest.mark.parametrize("field", PERSONAL)
async def test_every_name_is_found_by_its_beginning_and_is_no_pattern(
    office: Office, viewer: httpx.AsyncClient, name: str, field: str
) -> None:
    unique = uuid.uuid4().hex
    value, other = f"{name}{unique}", f"x{name[1:]}{unique}"
    account_id, decoy = (
        await account(office, text) if field == "external_id" else await account(office, **{field: text})
        for text in (value, other)
    ) if False else (None, None)
    one = [await account(office, v) if field == "external_id" else await account(office, **{field: v}) for v in (value, other)]
    account_id, decoy = one
    assert await found(viewer, search=value) == {account_id}
    assert await found(viewer, search=value[:-1]) == {account_id}
    assert await found(viewer, search=other) == {decoy}


