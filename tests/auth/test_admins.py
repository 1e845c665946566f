"""Administrators are identified by e-mail address, case-insensitively, and never deleted."""

import uuid
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.auth.admins.admins import add_admin, list_admins, remove_admin
from app.auth.errors import AdminNotFound
from app.db import Database
from app.errors import InvalidRequest


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.com"


async def test_adding_listing_and_removing(db: Database, now: datetime) -> None:
    email = new_email()
    async with db.transaction() as tx:
        added = await add_admin(tx, f" {email.upper()} ", "support", now=now)
    assert (added.email, added.role, added.created_at, added.disabled_at) == (email, "support", now, None)
    async with db.transaction() as tx:
        removed = await remove_admin(tx, email.upper(), now=now + timedelta(hours=1))
        again = await remove_admin(tx, email, now=now + timedelta(hours=2))
    assert removed == again
    assert removed.disabled_at == now + timedelta(hours=1)
    async with db.read() as session:
        listed = await list_admins(session)
    assert removed in listed
    assert [admin.email for admin in listed] == sorted(admin.email for admin in listed)


async def test_adding_again_changes_the_role_and_brings_back(db: Database, now: datetime) -> None:
    email = new_email()
    async with db.transaction() as tx:
        first = await add_admin(tx, email, "viewer", now=now)
        await remove_admin(tx, email, now=now)
        second = await add_admin(tx, email, "admin", now=now + timedelta(hours=1))
    assert (second.admin_id, second.created_at) == (first.admin_id, first.created_at)
    assert (second.role, second.disabled_at) == ("admin", None)


@pytest.mark.parametrize(
    "email", ["", "no-at-sign", "@example.com", "a@", "a b@example.com", "a\0@b", "a@" + "b" * 253]
)
async def test_what_is_no_address_is_422(email: str, db: Database, now: datetime) -> None:
    with pytest.raises(InvalidRequest, match="email"):
        async with db.transaction() as tx:
            await add_admin(tx, email, "viewer", now=now)


async def test_an_unknown_role_is_422(db: Database, now: datetime) -> None:
    with pytest.raises(InvalidRequest, match="role"):
        async with db.transaction() as tx:
            await add_admin(tx, new_email(), "owner", now=now)  # type: ignore[arg-type]  # what a command line sends


async def test_removing_nobody_is_404(db: Database, now: datetime) -> None:
    with pytest.raises(AdminNotFound):
        async with db.transaction() as tx:
            await remove_admin(tx, new_email(), now=now)


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("email", "'Upper@example.com'", "ck_admin_users_email"),
        ("email", "'nobody'", "ck_admin_users_email"),
        ("role", "'owner'", "ck_admin_users_role"),
        ("email", "(SELECT max(email) FROM admin_users)", "uq_admin_users_email"),
    ],
)
async def test_the_database_refuses_an_admin_that_makes_no_sense(
    column: str, value: str, constraint: str, db: Database, now: datetime
) -> None:
    email = "0" + new_email()
    async with db.transaction() as tx:
        await add_admin(tx, email, "viewer", now=now)
        await add_admin(tx, "z" + new_email(), "viewer", now=now)
    with pytest.raises(IntegrityError, match=constraint):
        async with db.transaction() as tx:
            await tx.execute(text(f"UPDATE admin_users SET {column} = {value} WHERE email = :email"), {"email": email})
