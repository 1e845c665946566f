"""Codes, tokens and claims of the local OpenID provider: as strict as Google."""

import base64
import time
from urllib.parse import quote

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from tests.demo.oidc_provider.protocol import (
    CALLBACK,
    VERIFIER,
    claims_of,
    redeem,
    sign_in,
)
from tests.demo.oidc_server import ALICE, SPA, WEB, RunningOIDC


def test_a_code_works_once(oidc: RunningOIDC) -> None:
    code = sign_in(oidc)["code"]
    first = redeem(oidc, code)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == "no-store"
    second = redeem(oidc, code)
    assert second.status_code == 400
    assert second.json()["error"] == "invalid_grant"


def test_a_code_is_short_lived(oidc: RunningOIDC) -> None:
    oidc.switch(code_lifetime_s=0.05)
    code = sign_in(oidc)["code"]
    time.sleep(0.1)
    assert redeem(oidc, code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": None},
        {"code_verifier": "w" * 64},
        {"code_verifier": create_s256_code_challenge(VERIFIER)},
        {"redirect_uri": None},
        {"redirect_uri": WEB.redirect_uris[1]},
        {"client_id": SPA.client_id, "client_secret": None},
    ],
)
def test_a_code_is_bound_to_verifier_redirect_and_client(oidc: RunningOIDC, changes: dict[str, str | None]) -> None:
    code = sign_in(oidc)["code"]
    refused = redeem(oidc, code, **changes)
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_grant"
    assert redeem(oidc, code).status_code == 400, "a failed try must use the code up"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": None},
        {"client_secret": ""},
        {"client_secret": "wrong"},
        {"client_id": None},
        {"client_id": "unknown"},
        {"client_id": SPA.client_id, "client_secret": "invented"},
    ],
)
def test_wrong_client_credentials_are_401(oidc: RunningOIDC, changes: dict[str, str | None]) -> None:
    refused = redeem(oidc, sign_in(oidc)["code"], **changes)
    assert refused.status_code == 401
    assert refused.json()["error"] == "invalid_client"
    assert "WWW-Authenticate" in refused.headers


def test_malformed_token_requests_are_refused(oidc: RunningOIDC) -> None:
    assert redeem(oidc, "x", grant_type="password").json()["error"] == "unsupported_grant_type"
    twice = oidc.http.post("/token", content=b"client_id=a&client_id=b")
    assert twice.json()["error"] == "invalid_request"
    for credentials in (b"Basic !!", b"Basic bm9jb2xvbg==", b"Bearer x", b"Basic \xff"):
        headers = httpx.Headers([(b"Authorization", credentials)])
        assert oidc.http.post("/token", headers=headers).json()["error"] == "invalid_client"


def test_basic_credentials_may_be_percent_encoded(oidc: RunningOIDC) -> None:
    assert WEB.client_secret is not None
    secret = quote(WEB.client_secret, safe="")
    assert secret != WEB.client_secret
    credentials = base64.b64encode(f"{WEB.client_id}:{secret}".encode()).decode()
    form = {
        "grant_type": "authorization_code",
        "code": sign_in(oidc)["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    answer = oidc.http.post("/token", data=form, headers={"Authorization": f"Basic {credentials}"})
    assert answer.status_code == 200


def test_a_public_client_needs_only_pkce(oidc: RunningOIDC) -> None:
    uri = SPA.redirect_uris[0]
    code = sign_in(oidc, client_id=SPA.client_id, redirect_uri=uri)["code"]
    response = redeem(oidc, code, client_id=SPA.client_id, client_secret=None, redirect_uri=uri)
    assert claims_of(response.json()["id_token"])["aud"] == SPA.client_id


def test_scopes_decide_what_is_told(oidc: RunningOIDC) -> None:
    token = redeem(oidc, sign_in(oidc, scope="openid")["code"]).json()
    assert not {"email", "email_verified", "name"} & claims_of(token["id_token"]).keys()
    answer = oidc.http.get("/userinfo", headers={"Authorization": f"Bearer {token['access_token']}"}).json()
    assert answer == {"sub": ALICE.sub, "hd": "example.com"}


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer x.y.z", "Basic abc"])
def test_userinfo_needs_an_access_token(oidc: RunningOIDC, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    assert oidc.http.get("/userinfo", headers=headers).status_code == 401
    assert oidc.http.get("/userinfo", headers={"Authorization": f"Bearer {oidc.mint()}"}).status_code == 401
