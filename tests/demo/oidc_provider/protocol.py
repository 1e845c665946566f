"""The requests of the protocol, right ones and with changes, and what is read from answers."""

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc.jwk import KeySet

from tests.demo.oidc_server import ALICE, WEB, RunningOIDC

VERIFIER = "v" * 64
CALLBACK = WEB.redirect_uris[0]


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
    """Click a user's button. Return the query that the client's redirect_uri receives."""
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
