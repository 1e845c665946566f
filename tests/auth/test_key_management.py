"""Making, listing, changing, rotating and revoking keys; and the rules that the database enforces."""

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.auth.api_keys.keys import KeyFacts, NewKey, UsageTerms
from app.auth.api_keys.service import create_key, list_keys, revoke_key, rotate_key, update_key
from app.auth.caller import Permission
from app.auth.errors import KeyNotActive, KeyNotFound
from app.db import Database
from app.errors import InvalidRequest
from tests.auth.conftest import MakeKey

TERMS = UsageTerms("oauth:zero", "//gateway/eu", "debt", debt_limit_nanos=5 * 10**9, max_cost_nanos=10**9)


async def facts_of(db: Database, key: NewKey) -> KeyFacts:
    async with db.read() as session:
        return next(facts for facts in await list_keys(session) if facts.key_id == key.key_id)


async def test_a_key_is_stored_as_it_was_asked_for(make_key: MakeKey, db: Database, now: datetime) -> None:
    expires_at = now + timedelta(days=30)
    key = await make_key(
        {Permission.WRITE},
        environment="test",
        now=now,
        expires_at=expires_at,
        ip_allow_list=["203.0.113.0/24", "2001:db8::/32", "203.0.113.0/24"],
        client_subject="CN=agent-7,O=Example",
        rate_limit_per_minute=77,
        usage=TERMS,
    )
    assert await facts_of(db, key) == KeyFacts(
        key_id=key.key_id,
        environment="test",
        name="tests",
        permissions=frozenset({Permission.WRITE}),
        ip_allow_list=(ip_network("2001:db8::/32"), ip_network("203.0.113.0/24")),
        client_subject="CN=agent-7,O=Example",
        rate_limit_per_minute=77,
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
        rotated_to=None,
        grace_ends_at=None,
        last_used_at=None,
        requests_total=0,
        usage=TERMS,
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"permissions": set()}, "permissions"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"ip_allow_list": ["203.0.113.1/24"]}, "ip_allow_list"),
        ({"ip_allow_list": ["everywhere"]}, "ip_allow_list"),
        ({"ip_allow_list": [f"10.{n}.0.0/16" for n in range(101)]}, "ip_allow_list"),
        ({"client_subject": ""}, "client_subject"),
        *(({"client_subject": text}, "client_subject") for text in ("not a subject", "CN=", "CN=a,b")),
        ({"client_subject": "x" * 513}, "client_subject"),
        ({"client_subject": "CN=a\r\nCN=b"}, "client_subject"),
        ({"rate_limit_per_minute": 0}, "rate_limit_per_minute"),
        ({"rate_limit_per_minute": 2**31}, "rate_limit_per_minute"),
        *(
            ({"usage": UsageTerms(identity_provider=provider)}, "identity_provider")
            for provider in ("", "zero", "oauth:", "oauth:a\0b", "oauth:" + "x" * 250)
        ),
        *(
            ({"usage": UsageTerms(event_source=source)}, "event_source")
            for source in ("", "a b", "a\0b", "ü", "x" * 256)
        ),
        ({"usage": UsageTerms(usage_policy="debt")}, "debt_limit_nanos"),
        ({"usage": UsageTerms(debt_limit_nanos=-1)}, "debt_limit_nanos"),
        ({"usage": UsageTerms(max_cost_nanos=2**53)}, "max_cost_nanos"),
        ({"permissions": {Permission.USAGE_SET_COST}}, "max_cost_nanos"),
    ],
)
async def test_a_wrong_wish_is_422_and_names_the_field(
    change: dict[str, Any], field: str, db: Database, now: datetime
) -> None:
    wish: dict[str, Any] = {"environment": "live", "name": "x", "permissions": {Permission.READ}, "now": now, **change}
    with pytest.raises(InvalidRequest, match=field) as refused:
        async with db.transaction() as tx:
            await create_key(tx, **wish)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 255},
        {"ip_allow_list": [f"10.{n}.0.0/16" for n in range(100)]},
        {"client_subject": f"CN={'x' * 509}"},
        {"rate_limit_per_minute": 1},
        {"rate_limit_per_minute": 2**31 - 1},
    ],
)
async def test_a_wish_at_its_bound_is_granted(
    change: dict[str, Any], make_key: MakeKey, db: Database, now: datetime
) -> None:
    key = await make_key()
    async with db.transaction() as tx:
        await update_key(tx, key.key_id, now=now, **change)
    facts = await facts_of(db, key)
    assert len(facts.ip_allow_list) == len(change.get("ip_allow_list", ()))
    others = {field: value for field, value in change.items() if field != "ip_allow_list"}
    assert {field: getattr(facts, field) for field in others} == others


async def test_keys_are_listed_newest_first_and_in_pages(make_key: MakeKey, db: Database, now: datetime) -> None:
    base = now + timedelta(days=1000)  # newer than all keys of other tests
    made = [await make_key(environment="test", now=base + timedelta(minutes=n // 2)) for n in range(6)]
    listed: list[KeyFacts] = []
    async with db.read() as session:
        for _ in range(3):
            listed += await list_keys(session, environment="test", after=listed[-1] if listed else None, limit=2)
        live = await list_keys(session, environment="live", limit=1000)
    assert {facts.key_id for facts in listed} == {key.key_id for key in made}
    order = [(facts.created_at, facts.key_id) for facts in listed]
    assert order == sorted(order, reverse=True)
    assert all(facts.environment == "live" for facts in live)
    assert not hasattr(listed[0], "secret_hash")


async def test_only_an_active_key_is_rotated_or_changed(make_key: MakeKey, db: Database, now: datetime) -> None:
    revoked, rotated = await make_key(), await make_key()
    expired = await make_key(now=now - timedelta(days=2), expires_at=now - timedelta(days=1))
    async with db.transaction() as tx:
        await revoke_key(tx, revoked.key_id, now=now)
        await rotate_key(tx, rotated.key_id, grace_s=3600, now=now)
    for key, status in ((revoked, "revoked"), (expired, "expired"), (rotated, "rotated")):
        with pytest.raises(KeyNotActive, match=status) as refused:
            async with db.transaction() as tx:
                await rotate_key(tx, key.key_id, grace_s=3600, now=now)
        assert (refused.value.status, refused.value.code) == (409, "api_key_not_active")
        with pytest.raises(KeyNotActive):
            async with db.transaction() as tx:
                await update_key(tx, key.key_id, expires_at=None, now=now)


async def test_racing_rotations_make_one_successor(make_key: MakeKey, db: Database, now: datetime) -> None:
    key = await make_key()

    async def rotate() -> NewKey:
        async with db.transaction() as tx:
            return await rotate_key(tx, key.key_id, grace_s=3600, now=now)

    outcomes = await asyncio.gather(*(rotate() for _ in range(4)), return_exceptions=True)
    made = [outcome for outcome in outcomes if isinstance(outcome, NewKey)]
    assert len(made) == 1
    assert sum(isinstance(outcome, KeyNotActive) for outcome in outcomes) == 3
    assert (await facts_of(db, key)).rotated_to == made[0].key_id


async def test_a_successor_has_the_rights_and_the_expiry_of_the_old_key(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    old = await make_key(
        {Permission.READ},
        environment="test",
        expires_at=now + timedelta(days=3),
        ip_allow_list=["10.0.0.0/8"],
        client_subject="CN=agent-7",
        rate_limit_per_minute=9,
    )
    async with db.transaction() as tx:
        new = await rotate_key(tx, old.key_id, grace_s=100, now=now)
    before, after = await facts_of(db, old), await facts_of(db, new)
    assert before.grace_ends_at == now + timedelta(seconds=100)
    assert before.status(now) == "rotated"
    assert after.status(now) == "active"
    same = ("environment", "name", "permissions", "expires_at", "ip_allow_list", "client_subject")
    for field in (*same, "rate_limit_per_minute"):
        assert getattr(after, field) == getattr(before, field)
    assert old.secret_text[-43:] != new.secret_text[-43:]


async def test_a_rotated_key_can_be_revoked_before_its_grace_ends(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    old = await make_key()
    async with db.transaction() as tx:
        await rotate_key(tx, old.key_id, grace_s=3600, now=now)
        await revoke_key(tx, old.key_id, now=now)
    assert not (await facts_of(db, old)).works(now)


async def test_revoking_again_changes_nothing(make_key: MakeKey, db: Database, now: datetime) -> None:
    key = await make_key()
    async with db.transaction() as tx:
        first = await revoke_key(tx, key.key_id, now=now)
        again = await revoke_key(tx, key.key_id, now=now + timedelta(days=1))
    assert first == again
    assert again.revoked_at == now


async def test_an_unknown_key_is_404(db: Database, now: datetime) -> None:
    for manage in (
        lambda tx: revoke_key(tx, "0" * 16, now=now),
        lambda tx: rotate_key(tx, "0" * 16, grace_s=1, now=now),
        lambda tx: update_key(tx, "0" * 16, name="x", now=now),
    ):
        with pytest.raises(KeyNotFound) as refused:
            async with db.transaction() as tx:
                await manage(tx)
        assert (refused.value.status, refused.value.code) == (404, "api_key_not_found")


async def test_an_update_changes_what_it_names_and_nothing_else(make_key: MakeKey, db: Database, now: datetime) -> None:
    key = await make_key(ip_allow_list=["10.0.0.0/8"], rate_limit_per_minute=9, expires_at=now + timedelta(days=1))
    before = await facts_of(db, key)
    async with db.transaction() as tx:
        after = await update_key(tx, key.key_id, name="renamed", rate_limit_per_minute=None, now=now)
    assert after == await facts_of(db, key)
    assert (after.name, after.rate_limit_per_minute) == ("renamed", None)
    unchanged = ("permissions", "expires_at", "ip_allow_list", "environment", "created_at", "rotated_to")
    assert [getattr(after, name) for name in unchanged] == [getattr(before, name) for name in unchanged]
    wishes: list[dict[str, Any]] = [{"permissions": set()}, {"ip_allow_list": ["x"]}, {"rate_limit_per_minute": -1}]
    for wish in wishes:
        with pytest.raises(InvalidRequest):
            async with db.transaction() as tx:
                await update_key(tx, key.key_id, now=now, **wish)


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("key_id", "'UPPER-CASE-ID-00'", "ck_api_keys_key_id"),
        ("environment", "'staging'", "ck_api_keys_environment"),
        ("name", "''", "ck_api_keys_name"),
        ("secret_hash", "'plain text'", "ck_api_keys_secret_hash"),
        ("permissions", "'{billing:everything}'", "ck_api_keys_permissions"),
        ("permissions", "'{}'", "ck_api_keys_permissions"),
        ("client_subject", "''", "ck_api_keys_client_subject"),
        ("rate_limit_per_minute", "0", "ck_api_keys_rate_limit_per_minute"),
        ("grace_ends_at", "now()", "ck_api_keys_rotation"),
        ("rotated_to", "key_id", "ck_api_keys_rotation"),
        ("(rotated_to, grace_ends_at)", "('0000000000000000', now())", "fk_api_keys_rotated_to_api_keys"),
    ],
)
async def test_the_database_refuses_a_key_that_makes_no_sense(
    column: str, value: str, constraint: str, make_key: MakeKey, db: Database
) -> None:
    key = await make_key()
    with pytest.raises(IntegrityError, match=constraint):
        async with db.transaction() as tx:
            await tx.execute(text(f"UPDATE api_keys SET {column} = {value} WHERE key_id = :id"), {"id": key.key_id})


async def test_two_keys_cannot_share_a_successor(make_key: MakeKey, db: Database, now: datetime) -> None:
    first, second = await make_key(), await make_key()
    async with db.transaction() as tx:
        new = await rotate_key(tx, first.key_id, grace_s=1, now=now)
    with pytest.raises(IntegrityError, match="uq_api_keys_rotated_to"):
        async with db.transaction() as tx:
            await tx.execute(
                text("UPDATE api_keys SET rotated_to = :new, grace_ends_at = now() WHERE key_id = :id"),
                {"new": new.key_id, "id": second.key_id},
            )
