"""Routes of one kind of credential: X-Admin-Key beside X-API-Key, and routes of end users only."""

import uuid
from collections.abc import Iterator

import pytest

from app.auth.caller import Permission
from tests.auth.conftest import MakeKey, Process, StartProcess
from tests.auth.test_user_tokens import issuer, mint
from tests.demo.oidc_server import RunningOIDC, running_oidc


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture
async def process(start_process: StartProcess, oidc: RunningOIDC) -> Process:
    return await start_process(issuers=[issuer(oidc)])


async def test_a_key_that_may_add_money_is_accepted_in_either_header(process: Process, make_key: MakeKey) -> None:
    key = (await make_key({Permission.MONEY_CREDIT})).secret_text
    reader = (await make_key({Permission.READ, Permission.WRITE, Permission.CREDIT})).secret_text
    client = await process.client()
    for header in ("X-Admin-Key", "X-API-Key"):
        answer = await client.get("/money", headers={header: key})
        assert (answer.status_code, answer.json()["permissions"]) == (200, ["money:credit"])
        assert (await client.get("/money", headers={header: reader})).json()["code"] == "missing_permission"
        assert (await client.get("/money", headers={header: key[:-1]})).status_code == 401
    elsewhere = await client.get("/read", headers={"X-Admin-Key": reader})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (401, "unauthorized")


async def test_two_keys_are_none_even_if_they_are_the_same(process: Process, make_key: MakeKey) -> None:
    key = (await make_key({Permission.MONEY_CREDIT})).secret_text
    client = await process.client()
    for headers in ([("X-Admin-Key", key), ("X-API-Key", key)], [("X-Admin-Key", key)] * 2):
        answer = await client.get("/money", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("headers", [{}, {"X-Admin-Key": ""}, {"X-Admin-Key": "changeme"}, {"X-Admin-Key": "Bearer a"}])
async def test_no_admin_key_and_a_wrong_one_are_401(headers: dict[str, str], process: Process) -> None:
    answer = await (await process.client()).get("/money", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "ApiKey")


async def test_a_route_of_users_needs_their_token(process: Process, make_key: MakeKey, oidc: RunningOIDC) -> None:
    email = f"{uuid.uuid4()}@example.com"
    token = {"Authorization": f"Bearer {mint(oidc, email=email, email_verified=True)}"}
    key = {"X-API-Key": (await make_key()).secret_text}
    client = await process.client()
    for headers in (token, token | key, token | {"X-API-Key": "wrong"}):
        answer = await client.get("/me", headers=headers)
        assert answer.status_code == 200
        assert answer.json()["user"] is not None
        assert answer.json()["actor"][0] == "user"
    for headers in ({}, key, {"Authorization": f"Bearer {key['X-API-Key']}"}, {"Authorization": "Basic YTpi"}):
        answer = await client.get("/me", headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), headers
    twice = await client.get("/me", headers=[*token.items(), *token.items()])
    assert (twice.status_code, twice.json()["code"]) == (401, "invalid_token")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (None, "unknown"),
        (b"", "unknown"),
        (b" \t ", "unknown"),
        (b"gateway", "gateway"),
        ("Kyjiv \u0457".encode(), "Kyjiv \u0457"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\x07b\x7f", "ab"),
        (b"x" * 5000, "x" * 255),
    ],
)
async def test_a_services_name_is_cut_and_cleaned(
    sent: bytes | None, shown: str, process: Process, make_key: MakeKey
) -> None:
    key = (await make_key({Permission.MONEY_CREDIT})).secret_text
    headers = [(b"X-API-Key", key.encode()), *([(b"X-Service-Name", sent)] if sent is not None else [])]
    answer = await (await process.client()).get("/money", headers=headers)
    assert answer.json()["service"] == shown
