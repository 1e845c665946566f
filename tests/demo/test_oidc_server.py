"""The local OpenID provider keeps the protocol as strictly as Google, and breaks it only when told to."""

import base64
import hashlib
import hmac
import json
import re
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, KeySet, RSAKey

from tests.demo.oidc_server import ALICE, BOB, SPA, WEB, RunningOIDC, running_oidc

VERIFIER = "v" * 64
CALLBACK = WEB.redirect_uris[0]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture
def oidc(shared_server: RunningOIDC) -> Iterator[RunningOIDC]:
    shared_server.reset()
    yield shared_server
    shared_server.reset()


@pytest.fixture
async def client(oidc: RunningOIDC) -> AsyncIterator[Any]:
    async with AsyncOAuth2Client(
        WEB.client_id,
        WEB.client_secret,
        scope="openid email profile",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        trust_env=False,
    ) as client:
        yield client


def parameters(**changes: str | None) -> dict[str, str]:
    """A correct authorization request, with changes; None leaves a parameter out."""
    request: dict[str, str | None] = {
        "response_type": "code",
        "client_id": WEB.client_id,
        "redirect_uri": CALLBACK,
        "scope": "openid email profile",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": create_s256_code_challenge(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in request.items() if value is not None}


def redirected(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 303, response.text
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def sign_in(oidc: RunningOIDC, sub: str = ALICE.sub, **changes: str | None) -> dict[str, str]:
    """Click a user's button; what the client's redirect_uri is told."""
    return redirected(oidc.http.post("/authorize", params=parameters(**changes), data={"sub": sub}))


def redeem(oidc: RunningOIDC, code: str, **changes: str | None) -> httpx.Response:
    form: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": WEB.client_id,
        "client_secret": WEB.client_secret,
        **changes,
    }
    return oidc.http.post("/token", data={name: value for name, value in form.items() if value is not None})


def keys_of(oidc: RunningOIDC) -> KeySet:
    return KeySet.import_key_set({"keys": oidc.http.get("/jwks").json()["keys"]})


def claims_of(token: str) -> dict[str, Any]:
    """The claims, unverified."""
    segment = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


def header_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return header


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
    assert "not possible" in response.text


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


@pytest.mark.parametrize(
    ("fault", "claim", "expected"),
    [
        ("wrong_aud", "aud", "another-client"),
        ("wrong_iss", "iss", "https://issuer.invalid"),
        ("email_unverified", "email_verified", False),
        ("other_hd", "hd", "another-domain.example"),
        ("missing_hd", "hd", None),
    ],
)
def test_a_switch_makes_a_claim_wrong_in_the_whole_flow(
    oidc: RunningOIDC, fault: str, claim: str, expected: object
) -> None:
    oidc.switch(id_token=[fault])
    token = redeem(oidc, sign_in(oidc)["code"]).json()["id_token"]
    assert jwt.decode(token, keys_of(oidc), algorithms=["RS256"]).claims.get(claim) == expected


def test_a_switch_makes_nonce_and_times_wrong(oidc: RunningOIDC) -> None:
    oidc.switch(id_token=["wrong_nonce", "expired"])
    claims = claims_of(redeem(oidc, sign_in(oidc)["code"]).json()["id_token"])
    assert claims["nonce"] != "the-nonce"
    assert claims["exp"] < time.time()
    oidc.switch(id_token=["future_iat"])
    claims = claims_of(redeem(oidc, sign_in(oidc)["code"]).json()["id_token"])
    assert claims["nonce"] == "the-nonce"
    assert claims["iat"] > time.time() + 600


def test_a_switch_makes_the_signature_wrong(oidc: RunningOIDC) -> None:
    keys = keys_of(oidc)
    unsigned = oidc.mint(faults=["alg_none"])
    assert header_of(unsigned) == {"alg": "none"}
    assert unsigned.endswith(".")

    confused = oidc.mint(faults=["hs256_with_public_key"])
    key = keys.keys[0]
    assert isinstance(key, RSAKey)
    signing_input, _, signature = confused.rpartition(".")
    digest = hmac.digest(key.as_pem(private=False), signing_input.encode(), "sha256")
    assert header_of(confused)["alg"] == "HS256"
    assert signature == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with pytest.raises(UnsupportedAlgorithmError):
        jwt.decode(confused, keys, algorithms=["RS256"])

    assert header_of(oidc.mint(faults=["unknown_kid"]))["kid"] not in {key.kid for key in keys.keys}
    with pytest.raises(BadSignatureError):
        jwt.decode(oidc.mint(faults=["bad_signature"]), keys, algorithms=["RS256"])
    assert jwt.decode(oidc.mint(), keys, algorithms=["RS256"]).claims["sub"] == ALICE.sub


def test_endpoints_fail_stall_and_recover(oidc: RunningOIDC) -> None:
    oidc.switch(jwks="error", token_endpoint="error")
    assert oidc.http.get("/jwks").status_code == 500
    code = sign_in(oidc)["code"]
    assert redeem(oidc, code).status_code == 500

    oidc.switch(jwks="slow", token_endpoint="slow", slow_s=0.3)
    started = time.monotonic()
    assert oidc.http.get("/jwks").status_code == 200
    assert redeem(oidc, code).status_code == 200
    assert time.monotonic() - started >= 0.6

    oidc.switch(jwks="black_hole")
    with pytest.raises(httpx.ReadTimeout):
        oidc.http.get("/jwks", timeout=0.3)
    oidc.switch(jwks="ok")
    assert oidc.http.get("/jwks").status_code == 200
    assert oidc.requests("jwks") == 4
    assert oidc.requests("token") == 2


def test_rotation_with_and_without_the_old_key(oidc: RunningOIDC) -> None:
    before = oidc.mint()
    assert len(oidc.rotate_keys(keep_old=True)) == len({*map(str, oidc.published_keys())}) >= 2
    assert jwt.decode(before, keys_of(oidc), algorithms=["RS256"]).claims["sub"] == ALICE.sub
    assert header_of(oidc.mint())["kid"] != header_of(before)["kid"]

    assert len(oidc.rotate_keys(keep_old=False)) == 1
    with pytest.raises((JoseError, ValueError)):
        jwt.decode(before, keys_of(oidc), algorithms=["RS256"])
    assert jwt.decode(oidc.mint(), keys_of(oidc), algorithms=["RS256"]).claims["sub"] == ALICE.sub


def test_the_jwks_holds_no_private_member(oidc: RunningOIDC) -> None:
    oidc.switch(signing_alg="ES256")
    oidc.mint()
    for key in oidc.http.get("/jwks").json()["keys"]:
        assert key.keys() <= {"kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"}
        assert key["use"] == "sig"
        assert not (ECKey if key["kty"] == "EC" else RSAKey).import_key(key).is_private


def test_a_token_is_minted_for_anybody(oidc: RunningOIDC) -> None:
    claims = claims_of(oidc.mint(sub="someone", email="someone@example.org", aud="app", nonce="x"))
    assert (claims["sub"], claims["email"], claims["aud"], claims["azp"]) == (
        "someone",
        "someone@example.org",
        "app",
        "app",
    )
    assert claims["email_verified"] is True
    assert "exp" not in claims_of(oidc.mint(exp=None))
    answer = oidc.http.post("/_control/id-token", json={}).json()
    assert claims_of(answer["id_token"])["sub"] == ALICE.sub
    assert answer["token_type"] == "Bearer"


@pytest.mark.parametrize("body", [{"jwks": "maybe"}, {"unknown": 1}, {"id_token": ["nonsense"]}, {"slow_s": -1}])
def test_an_unknown_switch_is_refused(oidc: RunningOIDC, body: dict[str, Any]) -> None:
    assert oidc.http.patch("/_control/switches", json=body).status_code == 422


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "var" / "oidc.json"
    with running_oidc(state_path=state) as first:
        token, port = first.mint(), first.port
        first.rotate_keys(keep_old=True)
        kids = [key["kid"] for key in first.published_keys()]
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with running_oidc(state_path=state, port=port) as second:
        assert [key["kid"] for key in second.published_keys()] == kids
        assert jwt.decode(token, keys_of(second), algorithms=["RS256"]).claims["iss"] == second.issuer
