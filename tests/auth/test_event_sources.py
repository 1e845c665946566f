"""Event sources of API keys: all keys of a chain of rotations have the same; and permissions of later versions."""

from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.auth.api_keys.keys import NewKey, UsageTerms
from app.auth.api_keys.service import create_key, list_keys, rotate_key, update_key
from app.auth.caller import Permission
from app.db import Database
from tests.auth.conftest import MakeKey
from tests.books import connected
from tests.databases import Urls, alembic


async def sources_of(db: Database) -> dict[str, str]:
    async with db.read() as session:
        return {key.key_id: key.source for key in await list_keys(session)}


async def rotate(db: Database, key: NewKey, now: datetime) -> NewKey:
    async with db.transaction() as tx:
        return await rotate_key(tx, key.key_id, grace_s=60, now=now)


@pytest.mark.parametrize("chosen", [None, "//gateway/eu"])
async def test_successors_keep_the_source(chosen: str | None, make_key: MakeKey, db: Database, now: datetime) -> None:
    first = await make_key({Permission.USAGE_WRITE}, usage=UsageTerms(event_source=chosen))
    second = await rotate(db, first, now)
    third = await rotate(db, second, now)
    found = await sources_of(db)
    expected = chosen or f"api-key:{first.key_id}"
    assert [found[key.key_id] for key in (first, second, third)] == [expected] * 3


async def test_a_rotation_by_the_version_before_keeps_the_source(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    """That version inserts a key without the column, then names it as the successor."""
    first, second = await make_key(), await make_key()
    named = {"old": first.key_id, "new": second.key_id, "ends": now + timedelta(hours=1)}
    async with db.transaction() as tx:
        await tx.execute(
            text("UPDATE api_keys SET rotated_to = :new, grace_ends_at = :ends WHERE key_id = :old"), named
        )
    found = await sources_of(db)
    assert found[second.key_id] == found[first.key_id] == f"api-key:{first.key_id}"


async def test_keys_that_were_rotated_before_the_migration_get_the_source(own_database: Urls) -> None:
    alembic(own_database, "downgrade", "0024")
    ids = [str(number) * 16 for number in range(1, 5)]
    async with connected(own_database) as connection:
        for key_id, successor in ((ids[3], None), (ids[2], None), (ids[1], ids[2]), (ids[0], ids[1])):
            await connection.execute(
                "INSERT INTO api_keys (key_id, environment, name, secret_hash, permissions, ip_allow_list, created_at,"
                " rotated_to, grace_ends_at) VALUES ($1, 'live', 'k', '$argon2id$x', '{billing:read}', '{}', now(),"
                " $2::text, CASE WHEN $2::text IS NOT NULL THEN now() END)",
                key_id,
                successor,
            )
    alembic(own_database, "upgrade", "head")
    async with connected(own_database) as connection:
        stored = dict(await connection.fetch("SELECT key_id, event_source FROM api_keys"))
    assert stored == {ids[0]: None, ids[1]: f"api-key:{ids[0]}", ids[2]: f"api-key:{ids[0]}", ids[3]: None}


async def test_a_permission_of_a_later_version_is_ignored_but_not_lost(own_database: Urls, now: datetime) -> None:
    db = Database(SecretStr(own_database.service), pool_size=2)
    async with db.transaction() as tx:
        key = await create_key(tx, environment="live", name="k", permissions={Permission.READ}, now=now)
    async with connected(own_database) as connection:
        await connection.execute("ALTER TABLE api_keys DROP CONSTRAINT ck_api_keys_permissions")
        await connection.execute("UPDATE api_keys SET permissions = '{billing:read,cards:issue}'")
    async with db.transaction() as tx:
        changed = await update_key(tx, key.key_id, now=now, name="renamed")
    assert (changed.name, changed.permissions) == ("renamed", frozenset({Permission.READ}))
    async with connected(own_database) as connection:
        assert await connection.fetchval("SELECT permissions FROM api_keys") == ["billing:read", "cards:issue"]
    await db.close()
