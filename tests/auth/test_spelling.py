"""Spellings of identities that the operator has folded: tokens are revoked under each of them."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from app.auth.id_tokens.revocations import TokenRevocations, revoke_tokens_before
from app.auth.id_tokens.verifier import TokenClaims
from app.auth.spelling import FoldedProviders
from app.db import Database

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("listed", "under", "revoked"),
    [
        (["oauth:google"], "ann{m}", True),  # the account's spelling
        (["oauth:google"], "Ann{m}", True),  # the token's own
        ([], "ann{m}", False),
        ([], "Ann{m}", True),
        (["oauth:google"], "bob{m}", False),
    ],
)
async def test_a_cut_off_counts_under_the_folded_spelling_too(
    db: Database, listed: list[str], under: str, revoked: bool
) -> None:
    mark = uuid.uuid4().hex
    issued = NOW - timedelta(minutes=5)
    claims = TokenClaims(
        "live",
        "oauth:google",
        f"Ann{mark}",
        "https://issuer.example",
        "s",
        uuid.uuid4().hex,
        issued,
        NOW + timedelta(hours=1),
        None,
        None,
    )
    async with db.transaction() as tx:
        await revoke_tokens_before(
            tx, NOW, environment="live", oauth_provider="oauth:google", external_id=under.format(m=mark), now=NOW
        )
    revocations = TokenRevocations(db, FoldedProviders(listed))
    assert await revocations.is_revoked(claims, cache_counts=False) is revoked


@pytest.mark.parametrize("spellings", [("Ann", "ann"), ("ann", "Ann")])
async def test_the_later_of_two_spellings_cut_offs_counts(db: Database, spellings: tuple[str, str]) -> None:
    mark = uuid.uuid4().hex
    issued, expires = NOW - timedelta(minutes=5), NOW + timedelta(hours=1)
    token_id = uuid.uuid4().hex
    issuer = "https://issuer.example"
    claims = TokenClaims("live", "oauth:google", f"Ann{mark}", issuer, "s", token_id, issued, expires, None, None)
    async with db.transaction() as tx:
        for spelling, moment in zip(spellings, (issued - timedelta(hours=1), NOW), strict=True):
            await revoke_tokens_before(
                tx, moment, environment="live", oauth_provider="oauth:google", external_id=spelling + mark, now=NOW
            )
    assert await TokenRevocations(db, FoldedProviders(["oauth:google"])).is_revoked(claims, cache_counts=False)


@pytest.mark.parametrize(
    "text", ["Ann", "\u0130stanbul", "J\u00fcrgen", "Ju\u0308rgen", "\u039f\u0394\u039f\u03a3", "\u212a"]
)
def test_folding_twice_is_folding_once(text: str) -> None:
    providers = FoldedProviders(["oauth:google"])
    once = providers.fold("oauth:Google", text)
    assert providers.fold(*once) == once
