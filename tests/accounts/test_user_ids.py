"""`user_id`: a user named by the id at the key's provider; in every spelling of a UUID, and by token, one account."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.dependencies import QueryUser
from app.accounts.schemas import UserFields
from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.auth.dependencies import ReaderOrUser, WriterOrUser
from app.auth.spelling import FoldedProviders, canonical_uuid
from app.clock import Now
from app.db import Database
from app.main import create_app
from app.settings import Settings
from tests.auth.test_user_tokens import issuer, mint
from tests.conftest import make_usage_key, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import running_oidc

ZERO = "oauth:zero"
ID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
SPELLINGS = (ID, ID.upper(), ID.replace("-", ""), "{" + ID.upper() + "}", f"urn:uuid:{ID}", f"URN:UUID:{ID}")
NO_UUIDS = ("", "user-7", ID[:-1], ID + "0", ID[:-1] + "g", "{" + ID, "auth0|5f7c8ec7c33c6c004bbafe82", "ünïcode" * 5)


def test_every_spelling_of_a_uuid_is_one() -> None:
    assert {canonical_uuid(text) for text in SPELLINGS} == {ID}


@pytest.mark.parametrize("text", NO_UUIDS)
def test_any_other_text_is_itself(text: str) -> None:
    assert canonical_uuid(text) == text


def test_only_providers_of_issuers_have_one_spelling() -> None:
    providers = FoldedProviders(["oauth:folded"], [ZERO])
    assert providers.fold(ZERO, ID.upper()) == (ZERO, ID)
    assert providers.fold(ZERO, "Ann") == (ZERO, "Ann")
    assert providers.fold("oauth:other", ID.upper()) == ("oauth:other", ID.upper())
    assert providers.fold("oauth:folded", ID.replace("-", "").upper()) == ("oauth:folded", ID.replace("-", ""))


def with_routes(settings: Settings) -> FastAPI:
    """The application, with a route that names its user in the body and one that names it in the query."""
    app = create_app(settings)

    @app.post("/user")
    async def by_body(body: UserFields, caller: WriterOrUser, now: Now) -> dict[str, str]:
        account_id, _ = await app.state.accounts.directory.find_or_create(body.identity(caller), caller.actor, now)
        return {"account_id": str(account_id)}

    @app.get("/user")
    async def by_query(user: QueryUser, caller: ReaderOrUser) -> dict[str, str]:
        return {"account_id": str(await app.state.accounts.directory.find(user.identity(caller)))}

    return app


class Service:
    """The application with a route that names its user, and keys with and without an identity provider."""

    def __init__(self, http: httpx.AsyncClient, key: str, key_without_provider: str, oidc: Any) -> None:
        self.http, self.key, self.key_without_provider, self.oidc = http, key, key_without_provider, oidc

    async def post(self, key: str, **body: object) -> httpx.Response:
        return await self.http.post("/user", json=body, headers={"X-API-Key": key})

    async def account(self, **body: object) -> str:
        answer = await self.post(self.key, **body)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["account_id"]
        return found


@pytest.fixture(scope="module")
async def service(database: Urls, db: Database) -> AsyncIterator[Service]:
    permissions = (Permission.READ, Permission.WRITE)
    key = await make_usage_key(db, UsageTerms(identity_provider=ZERO), "live", *permissions)
    other = await make_usage_key(db, UsageTerms(), "live", *permissions)
    with running_oidc() as oidc:
        app = with_routes(
            settings_for(database, issuers=[issuer(oidc, provider=ZERO, subject_claim="sub").model_dump()])
        )
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://billing") as http:
                yield Service(http, key, other, oidc)


async def test_a_user_id_in_any_spelling_the_identity_and_a_token_lead_to_one_account(service: Service) -> None:
    user_id = str(uuid.uuid4())
    account = await service.account(user_id=user_id.upper())
    assert await service.account(user_id=user_id.replace("-", "")) == account
    assert await service.account(oauth_provider=ZERO, external_id=user_id) == account
    assert await service.account(oauth_provider=ZERO, external_id=user_id.upper(), user_id=user_id) == account
    for subject in (user_id, user_id.upper()):
        token = {"Authorization": f"Bearer {mint(service.oidc, sub=subject)}"}
        answers = [
            await service.http.post("/user", json={"user_id": str(uuid.uuid4())}, headers=token),
            await service.http.get("/user", headers=token),
        ]
        assert [answer.json() for answer in answers] == [{"account_id": account}] * 2, subject
    answer = await service.http.get("/user", params={"user_id": user_id.upper()}, headers={"X-API-Key": service.key})
    assert answer.json() == {"account_id": account}


async def test_a_token_outweighs_a_user_id_on_a_route_that_is_older_than_it(service: Service) -> None:
    user_id = str(uuid.uuid4())
    account = await service.account(user_id=user_id)
    token = {"Authorization": f"Bearer {mint(service.oidc, sub=user_id)}"}
    for other in (str(uuid.uuid4()), "", 7):
        body = {"amount_minor": 100, "user_id": other, "idempotency_key": "same"}
        answer = await service.http.post("/v1/billing/charges", json=body, headers=token)
        assert answer.json()["account_id"] == account, answer.text


async def test_a_token_that_comes_first_opens_the_same_account(service: Service) -> None:
    user_id = str(uuid.uuid4())
    token = {"Authorization": f"Bearer {mint(service.oidc, sub=user_id.upper())}"}
    first = await service.http.post("/user", json={}, headers=token)
    assert first.json() == {"account_id": await service.account(user_id=user_id)}


async def test_a_user_id_that_is_no_uuid_is_taken_as_it_is(service: Service) -> None:
    mark = uuid.uuid4().hex[:8]
    assert await service.account(user_id=f"Ann{mark}") != await service.account(user_id=f"ann{mark}")


@pytest.mark.parametrize(
    ("has_provider", "body", "code", "field"),
    [
        (False, {"user_id": ID}, "invalid_request", "user_id"),
        (True, {"user_id": ID, "external_id": "ann"}, "invalid_request", "user_id"),
        (True, {"user_id": ID, "external_id": ID, "oauth_provider": "oauth:google"}, "invalid_request", "user_id"),
        (True, {}, "identity_required", "user_id"),
        (True, {"external_id": "ann"}, "identity_required", "oauth_provider"),
        (False, {}, "identity_required", "oauth_provider"),
        *((True, {"user_id": value}, "validation_error", "user_id") for value in ("", "a\0b", "x" * 256, 7, ["a"])),
    ],
)
async def test_a_request_that_names_no_user_or_two_is_422_and_names_the_field(
    has_provider: bool, body: dict[str, object], code: str, field: str, service: Service
) -> None:
    answer = await service.post(service.key if has_provider else service.key_without_provider, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert field in str(answer.json()["detail"])
