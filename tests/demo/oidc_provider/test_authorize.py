"""Signing in at the local OpenID provider: as strict as Google."""

import base64
import hashlib
import re
import time
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from joserfc import jwt

from tests.demo.oidc_provider.protocol import (
    CALLBACK,
    VERIFIER,
    claims_of,
    keys_of,
    parameters,
    redeem,
    redirected,
    sign_in,
)
from tests.demo.oidc_server import ALICE, BOB, SPA, WEB, RunningOIDC


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_a_full_sign_in_by_authlib_gives_googles_claims(
    oidc: RunningOIDC, client: Any, method: str, alg: str
) -> None:
    oidc.switch(signing_alg=alg)
    client.token_endpoint_auth_method = method
    discovery = f"{oidc.issuer}/.well-known/openid-configuration"
    metadata = (await client.request("GET", discovery, withhold_token=True)).json()
    assert metadata["issuer"] == oidc.issuer
    url, state = client.create_authorization_url(
        metadata["authorization_endpoint"], nonce="n-1", code_verifier=VERIFIER, prompt="select_account"
    )
    page = oidc.http.get(url)
    action = re.search(r'action="([^"]+)"', page.text)
    assert action is not None
    chosen = oidc.http.post(f"/authorize{action[1].replace('&amp;', '&')}", data={"sub": ALICE.sub})

    token = await client.fetch_token(
        metadata["token_endpoint"],
        authorization_response=chosen.headers["Location"],
        code_verifier=VERIFIER,
        state=state,
    )

    decoded = jwt.decode(token["id_token"], keys_of(oidc), algorithms=[alg])
    claims = decoded.claims
    assert decoded.header["alg"] == alg
    assert decoded.header["kid"] in {key.kid for key in keys_of(oidc).keys}
    left_half = hashlib.sha256(token["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(left_half).rstrip(b"=").decode()
    assert 0 <= time.time() - claims["iat"] < 60
    assert claims["exp"] - claims["iat"] == 3600
    assert {name: claims[name] for name in claims.keys() - {"iat", "exp", "at_hash"}} == {
        "iss": oidc.issuer,
        "aud": WEB.client_id,
        "azp": WEB.client_id,
        "sub": ALICE.sub,
        "email": ALICE.email,
        "email_verified": True,
        "hd": "example.com",
        "name": ALICE.name,
        "picture": ALICE.picture,
        "nonce": "n-1",
    }
    userinfo = (await client.get(metadata["userinfo_endpoint"])).json()
    assert userinfo["sub"] == ALICE.sub
    assert userinfo["email"] == ALICE.email


def test_the_page_offers_each_user_as_a_button_and_loads_nothing(oidc: RunningOIDC) -> None:
    page = oidc.http.get("/authorize", params=parameters(state='"><script>alert(1)</script>'))
    assert page.status_code == 200
    assert re.findall(r'name="sub" value="([^"]+)"', page.text) == [ALICE.sub, BOB.sub]
    assert "Bob &lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "href=" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_hints_filter_and_order_the_accounts(oidc: RunningOIDC) -> None:
    def offered(**changes: str) -> list[str]:
        page = oidc.http.get("/authorize", params=parameters(**changes))
        return re.findall(r'name="sub" value="([^"]+)"', page.text)

    assert offered(hd="example.com") == [ALICE.sub]
    assert offered(hd="*") == [ALICE.sub]
    assert offered(hd="nowhere.example") == []
    assert offered(login_hint=BOB.email) == [BOB.sub, ALICE.sub]
    assert offered(login_hint=BOB.sub) == [BOB.sub, ALICE.sub]


def test_the_page_comes_back_with_state_and_issuer(oidc: RunningOIDC) -> None:
    answer = sign_in(oidc, state="a b&c=d/é")
    assert answer["state"] == "a b&c=d/é"
    assert answer["iss"] == oidc.issuer
    assert "state" not in sign_in(oidc, state=None)
    location = oidc.http.post(
        "/authorize", params=parameters(redirect_uri=WEB.redirect_uris[1]), data={"sub": ALICE.sub}
    ).headers["Location"]
    assert location.startswith("http://127.0.0.1/other?x=1&")


def test_cancelling_is_access_denied(oidc: RunningOIDC) -> None:
    answer = redirected(oidc.http.post("/authorize", params=parameters(), data={"cancel": "1"}))
    assert answer["error"] == "access_denied"
    assert "code" not in answer
    assert sign_in(oidc, sub="nobody")["error"] == "access_denied"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "unknown"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?x=1"},
        {"redirect_uri": CALLBACK.upper()},
        {"redirect_uri": "http://evil.example/callback"},
        {"redirect_uri": SPA.redirect_uris[0]},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_sent_to_an_unregistered_address(
    oidc: RunningOIDC, changes: dict[str, str | None], method: str
) -> None:
    form = {"sub": ALICE.sub} if method == "POST" else None
    response = oidc.http.request(method, "/authorize", params=parameters(**changes), data=form)
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "Sign-in failed" in response.text


def test_a_parameter_given_twice_is_refused(oidc: RunningOIDC) -> None:
    twice = f"{urlencode(parameters())}&redirect_uri=http://evil.example/"
    assert oidc.http.get(f"/authorize?{twice}").status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_request_goes_back_as_an_error(
    oidc: RunningOIDC, changes: dict[str, str | None], error: str, method: str
) -> None:
    form = {"sub": ALICE.sub} if method == "POST" else None
    answer = redirected(oidc.http.request(method, "/authorize", params=parameters(**changes), data=form))
    assert answer["error"] == error
    assert answer["state"] == "the-state"
    assert "code" not in answer


def test_prompt_none_signs_in_silently_only_after_a_sign_in(oidc: RunningOIDC) -> None:
    with httpx.Client(base_url=oidc.issuer, trust_env=False) as browser:
        silent = parameters(prompt="none")
        assert redirected(browser.get("/authorize", params=silent))["error"] == "login_required"
        browser.post("/authorize", params=parameters(), data={"sub": BOB.sub})
        code = redirected(browser.get("/authorize", params=silent))["code"]
        assert claims_of(redeem(oidc, code).json()["id_token"])["sub"] == BOB.sub
