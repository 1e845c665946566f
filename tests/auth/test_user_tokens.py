"""End users by token: which account they are, what they may do, and how their tokens are revoked."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.auth.caller import Permission
from app.auth.id_tokens.revocations import (
    KEEP_AFTER_EXPIRY,
    forget_user,
    purge_expired_revocations,
    revoke_token,
    revoke_tokens_before,
)
from app.auth.id_tokens.verifier import MAX_TOKEN_LIFE, TokenClaims, token_id_of_jti
from app.db import Database
from app.errors import InvalidRequest
from app.issuers import Issuer
from tests.auth.conftest import MakeKey, Process, StartProcess, until
from tests.auth.test_changes_spread import PROMISE_S, kill_listeners
from tests.chaos.proxy import PostgresProxy
from tests.databases import Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


def issuer(oidc: RunningOIDC, **changes: Any) -> Issuer:
    return Issuer.model_validate(
        {
            "issuer": oidc.issuer,
            "jwks_url": oidc.jwks_url,
            "audiences": [WEB.client_id],
            "provider": "oauth:local",
            **changes,
        }
    )


@pytest.fixture
async def process(start_process: StartProcess, oidc: RunningOIDC) -> Process:
    return await start_process(issuers=[issuer(oidc)])


def mint(oidc: RunningOIDC, **claims: Any) -> str:
    """Mint a unique token: two with the same claims and second would be one token, revoked together."""
    return oidc.mint(**{"jti": uuid.uuid4().hex, **claims})


async def own(process: Process, token: str, **headers: str) -> httpx.Response:
    return await (await process.client()).get("/own", headers={"Authorization": f"Bearer {token}", **headers})


async def claims_of(process: Process, token: str) -> TokenClaims:
    return await process.auth._tokens.verify(token, datetime.now(UTC))


async def seconds_until_refused(process: Process, token: str) -> float:
    """When the last request began that was still accepted. How long answers take is not the promise."""
    started = last_accepted = time.perf_counter()
    while True:
        begun = time.perf_counter()
        if (await own(process, token)).status_code != 200:
            return last_accepted - started
        last_accepted = begun
        assert begun - started < 5, "the token is still accepted"
        await asyncio.sleep(0.005)


async def test_a_token_names_its_user_and_gives_no_permission(process: Process, oidc: RunningOIDC) -> None:
    answer = await own(process, mint(oidc, sub="user-7"))
    assert answer.status_code == 200
    caller = answer.json()
    assert (caller["environment"], caller["permissions"]) == ("live", [])
    assert caller["user"] == ["oauth:local", "user-7"]


async def test_the_ledgers_actor_does_not_name_the_person(process: Process, oidc: RunningOIDC) -> None:
    token = mint(oidc, sub="user-8", email="user-8@example.com")
    kind, actor_id = (await own(process, token)).json()["actor"]
    assert kind == "user"
    assert actor_id == (await claims_of(process, token)).token_id
    assert "user-8" not in actor_id


async def test_a_test_issuers_user_lives_in_the_test_environment(
    start_process: StartProcess, oidc: RunningOIDC
) -> None:
    process = await start_process(issuers=[issuer(oidc, environment="test")])
    assert (await own(process, mint(oidc))).json()["environment"] == "test"


async def test_a_wrong_token_is_401_with_its_challenge(process: Process, oidc: RunningOIDC) -> None:
    for token in ("a.b.c", mint(oidc, faults=["expired"]), mint(oidc, aud="somebody else")):
        answer = await own(process, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert token not in answer.text


async def test_a_route_for_keys_refuses_a_good_token(process: Process, oidc: RunningOIDC) -> None:
    answer = await (await process.client()).get("/read", headers={"Authorization": f"Bearer {mint(oidc)}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "ApiKey"


async def test_a_key_wins_over_a_token_even_when_it_is_wrong(
    process: Process, oidc: RunningOIDC, make_key: MakeKey
) -> None:
    key, writer = await make_key({Permission.READ}), await make_key({Permission.WRITE})
    token = mint(oidc)
    both = await own(process, token, **{"X-API-Key": key.secret_text})
    assert (both.status_code, both.json()["actor"], both.json()["user"]) == (200, ["api_key", key.key_id], None)
    assert (await own(process, token, **{"X-API-Key": "wrong"})).json()["code"] == "invalid_api_key"
    assert (await own(process, token, **{"X-API-Key": writer.secret_text})).json()["code"] == "missing_permission"


async def test_both_ways_in_stand_in_openapi(process: Process) -> None:
    schema = process.app.openapi()
    schemes = schema["components"]["securitySchemes"]
    assert schemes["ApiKey"]["name"] == "X-API-Key"
    assert (schemes["UserToken"]["type"], schemes["UserToken"]["scheme"]) == ("http", "bearer")
    assert schema["paths"]["/read"]["get"]["security"] == [{"ApiKey": []}]
    assert schema["paths"]["/own"]["get"]["security"] == [{"ApiKey": []}, {"UserToken": []}]


async def test_a_known_token_costs_no_database(process: Process, oidc: RunningOIDC) -> None:
    token = mint(oidc)
    assert (await own(process, token)).status_code == 200
    before = process.db.uses
    for _ in range(20):
        assert (await own(process, token)).status_code == 200
    assert process.db.uses == before


async def test_a_revoked_token_is_refused_everywhere_within_a_second(
    start_process: StartProcess, oidc: RunningOIDC, db: Database
) -> None:
    processes = [await start_process(issuers=[issuer(oidc)]) for _ in range(2)]
    token, other = mint(oidc, sub="u"), mint(oidc, sub="u")
    for process in processes:
        assert (await own(process, token)).status_code == 200
        assert (await own(process, other)).status_code == 200
    claims = await claims_of(processes[0], token)
    async with db.transaction() as tx:
        await revoke_token(tx, claims.token_id, expires_at=claims.expires_at, now=datetime.now(UTC))
    took_s = await asyncio.gather(*(seconds_until_refused(process, token) for process in processes))
    assert max(took_s) < PROMISE_S
    for process in processes:
        refused = await own(process, token)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")
        assert (await own(process, other)).status_code == 200


async def test_a_token_can_be_revoked_by_its_jti(process: Process, oidc: RunningOIDC, db: Database) -> None:
    now = datetime.now(UTC)
    async with db.transaction() as tx:
        token_id = token_id_of_jti(oidc.issuer, "known-from-a-log")
        await revoke_token(tx, token_id, expires_at=now + timedelta(hours=1), now=now)
    assert (await own(process, mint(oidc, jti="known-from-a-log"))).status_code == 401
    assert (await own(process, mint(oidc, jti="another"))).status_code == 200


async def test_a_users_tokens_before_a_moment_are_refused_and_later_ones_are_not(
    process: Process, oidc: RunningOIDC, db: Database
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    user = "oauth|user/with:signs"

    def issued(ago_s: int, sub: str = user) -> str:
        return mint(oidc, sub=sub, iat=int(now.timestamp()) - ago_s, exp=int(now.timestamp()) + 3600)

    old, at_the_moment, new, neighbour = issued(61), issued(60), issued(59), issued(61, "somebody-else")
    for token in (old, at_the_moment, new, neighbour):
        assert (await own(process, token)).status_code == 200
    who: dict[str, Any] = {"environment": "live", "oauth_provider": "oauth:local", "external_id": user}
    async with db.transaction() as tx:
        await revoke_tokens_before(tx, now - timedelta(seconds=60), **who, now=now)
    assert await seconds_until_refused(process, old) < PROMISE_S
    for token in (at_the_moment, new, neighbour):
        assert (await own(process, token)).status_code == 200
    async with db.transaction() as tx:
        await revoke_tokens_before(tx, now - timedelta(days=1), **who, now=now)  # never moves back
    await asyncio.sleep(0.2)
    assert (await own(process, old)).status_code == 401


async def test_a_cutoff_in_one_environment_leaves_the_other_alone(
    process: Process, oidc: RunningOIDC, db: Database
) -> None:
    now, token = datetime.now(UTC), mint(oidc, sub="both", iat=int(time.time()) - 10)
    async with db.transaction() as tx:
        await revoke_tokens_before(
            tx, now, environment="test", oauth_provider="oauth:local", external_id="both", now=now
        )
    assert (await own(process, token)).status_code == 200


async def test_a_cutoff_in_the_future_is_refused(db: Database) -> None:
    now = datetime.now(UTC)
    with pytest.raises(InvalidRequest):
        async with db.transaction() as tx:
            await revoke_tokens_before(
                tx, now + timedelta(seconds=1), environment="live", oauth_provider="oauth:x", external_id="u", now=now
            )


async def test_a_revocation_made_while_nobody_listened_is_seen(
    process: Process, oidc: RunningOIDC, db: Database, database: Urls
) -> None:
    token = mint(oidc)
    assert (await own(process, token)).status_code == 200
    claims = await claims_of(process, token)
    await kill_listeners(database.superuser)
    async with db.transaction() as tx:
        await revoke_token(tx, claims.token_id, expires_at=claims.expires_at, now=datetime.now(UTC))
    assert await seconds_until_refused(process, token) < PROMISE_S
    await until(process.auth.is_current)
    assert (await own(process, token)).status_code == 401


async def test_without_a_believable_connection_a_revocation_counts_all_the_same(
    relay: PostgresProxy, start_process: StartProcess, oidc: RunningOIDC, db: Database
) -> None:
    """First while the listener receives nothing, then for a token that was not used until it received again."""
    process = await start_process(issuers=[issuer(oidc)], database_url=relay.url)
    early, late = mint(oidc), mint(oidc)
    claims = [await claims_of(process, token) for token in (early, late)]
    for token in (early, late):
        assert (await own(process, token)).status_code == 200
    relay.swallows_listeners = True
    async with db.transaction() as tx:
        for each in claims:
            await revoke_token(tx, each.token_id, expires_at=each.expires_at, now=datetime.now(UTC))
    assert await seconds_until_refused(process, early) < PROMISE_S
    assert not process.auth.is_current()
    relay.swallows_listeners = False
    await until(process.auth.is_current)
    assert (await own(process, late)).status_code == 401


async def test_only_revocations_that_can_matter_no_more_are_purged(db: Database) -> None:
    now = datetime.now(UTC)
    ends = {"purge-old": now - KEEP_AFTER_EXPIRY - timedelta(seconds=1), "purge-recent": now - timedelta(minutes=1)}
    async with db.transaction() as tx:
        for token_id, expires_at in ends.items():
            await revoke_token(tx, token_id, expires_at=expires_at, now=now)
        await revoke_token(tx, "purge-old-but-longer", expires_at=ends["purge-old"], now=now)
        await revoke_token(tx, "purge-old-but-longer", expires_at=now, now=now)
        await revoke_token(tx, "purge-old-but-longer", expires_at=ends["purge-old"], now=now)
    async with db.transaction() as tx:
        assert await purge_expired_revocations(tx, now=now) >= 1
    async with db.read() as session:
        query = text("SELECT token_id FROM revoked_tokens WHERE token_id LIKE 'purge-%' ORDER BY 1")
        assert list((await session.execute(query)).scalars()) == ["purge-old-but-longer", "purge-recent"]


async def test_a_stolen_token_stays_refused_when_its_user_is_erased_until_none_can_be_left(
    process: Process, start_process: StartProcess, oidc: RunningOIDC, db: Database
) -> None:
    """Two people with the same subject at another provider, or in another environment, are other people."""
    now, user = datetime.now(UTC), uuid.uuid4().hex
    stolen, later = mint(oidc, sub=user, iat=int(now.timestamp()) - 60), mint(oidc, sub=user)
    assert (await own(process, stolen)).status_code == 200
    identity: dict[str, Any] = {"environment": "live", "oauth_provider": "oauth:local", "external_id": user}
    async with db.transaction() as tx:
        await revoke_tokens_before(tx, now - timedelta(seconds=30), **identity, now=now)
    for _ in range(2):  # again: no effect
        async with db.transaction() as tx:
            await forget_user(tx, **identity)
    fresh = await start_process(issuers=[issuer(oidc)])
    elsewhere = await start_process(issuers=[issuer(oidc, environment="test")])
    for caller, token, status in ((fresh, stolen, 401), (fresh, later, 200), (elsewhere, stolen, 200)):
        assert (await own(caller, token)).status_code == status
    kept = await db.fetch_row("SELECT count(*) AS n, min(t::text) AS row FROM erased_cutoffs t")
    assert kept is not None
    assert kept["n"] == 1
    assert user not in kept["row"]
    for moment, left in ((now + MAX_TOKEN_LIFE, 1), (now + MAX_TOKEN_LIFE + KEEP_AFTER_EXPIRY, 0)):
        async with db.transaction() as tx:
            await purge_expired_revocations(tx, now=moment)
        row = await db.fetch_row("SELECT count(*) AS n FROM erased_cutoffs")
        assert row is not None
        assert row["n"] == left


async def test_an_issuer_that_was_never_reached_is_503(start_process: StartProcess) -> None:
    with running_oidc() as gone:
        token, config = mint(gone), issuer(gone)
    process = await start_process(issuers=[config])
    answer = await own(process, token)
    assert (answer.status_code, answer.json()["code"]) == (503, "issuer_unavailable")
    assert "Retry-After" in answer.headers


async def test_the_database_refuses_a_cutoff_of_no_environment(db: Database) -> None:
    with pytest.raises(IntegrityError, match="ck_token_cutoffs_environment"):
        async with db.transaction() as tx:
            await tx.execute(text("INSERT INTO token_cutoffs VALUES ('staging', 'oauth:x', 'u', now())"))
