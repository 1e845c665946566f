"""The claims of a user's token about its person: the identity that it proves, and the consent to marketing."""

import uuid

import httpx
import pytest

from tests.billing.conftest import ClientWith
from tests.books import connected
from tests.conftest import Keys
from tests.databases import Urls
from tests.demo.oidc_server import RunningOIDC

CLAIMED = {
    "customer_email": "ceo@example.com",
    "display_name": "The Chief",
    "user_role": "admin",
    "tenant_id": "tenant-of-others",
    "wa_id": "wise-authority",
    "agent_id": "another-agent",
}
CONSENT = {"marketing_opt_in": True, "marketing_opt_in_source": "settings page"}
NAMES = ", ".join((*CLAIMED, *CONSENT))
ROUTES = {
    "/v1/billing/credits/check": {},
    "/v1/billing/check": {},
    "/v1/billing/charges": {"amount_minor": 100},
    "/v1/billing/purchases": {},
}


async def profile_of(urls: Urls, external_id: str) -> dict[str, object]:
    async with connected(urls) as connection:
        row = await connection.fetchrow(
            f"SELECT {NAMES} FROM account_profiles JOIN account_identities USING (account_id) WHERE external_id = $1",
            external_id,
        )
    return {} if row is None else {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("path", ROUTES)
async def test_a_token_sets_what_it_proves_and_the_consent(
    path: str, client_with: ClientWith, oidc: RunningOIDC, user: dict[str, str], database: Urls
) -> None:
    token = oidc.mint(email=user["external_id"], email_verified=True, name="Ada", jti=uuid.uuid4().hex)
    client = client_with(Authorization=f"Bearer {token}")
    for _ in range(2):
        await client.post(path, json={**ROUTES[path], **CLAIMED, **CONSENT})
    proven = {"customer_email": user["external_id"], "display_name": "Ada"}
    assert await profile_of(database, user["external_id"]) == {**proven, **CONSENT}


async def test_a_token_changes_nothing_else_that_a_key_gave(
    client_with: ClientWith, oidc: RunningOIDC, keys: Keys, user: dict[str, str], database: Urls
) -> None:
    """The agent's data about its user stays: a token without a name removes none."""
    given = {name: f"given {name}" for name in CLAIMED}
    agent = client_with(**{"X-API-Key": keys.agent})
    assert (await agent.post("/v1/billing/check", json={**user, **given})).status_code == 200
    token = oidc.mint(email=user["external_id"], email_verified=True, name=None, jti=uuid.uuid4().hex)
    person = client_with(Authorization=f"Bearer {token}")
    assert (await person.post("/v1/billing/check", json=CLAIMED)).status_code == 200
    expected = {**given, "customer_email": user["external_id"]}
    assert await profile_of(database, user["external_id"]) == expected


async def test_a_token_withdraws_the_consent(person: httpx.AsyncClient, user: dict[str, str], database: Urls) -> None:
    for consent in (True, False):
        sent = {"amount_minor": 100, "marketing_opt_in": consent, "marketing_opt_in_source": "app"}
        assert (await person.post("/v1/billing/charges", json=sent)).status_code == 201
        assert (await profile_of(database, user["external_id"]))["marketing_opt_in"] is consent
