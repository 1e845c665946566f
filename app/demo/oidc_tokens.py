"""Keys and tokens of the local OpenID provider, valid and invalid ones."""

import base64
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

Alg = Literal["RS256", "ES256"]
TOKEN_LIFETIME_S = 3600
RSA_KEY_BITS = 2048


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class Fault(StrEnum):
    """A fault of an ID token."""

    WRONG_NONCE = "wrong_nonce"
    WRONG_AUD = "wrong_aud"
    WRONG_ISS = "wrong_iss"
    EXPIRED = "expired"
    FUTURE_IAT = "future_iat"
    EMAIL_UNVERIFIED = "email_unverified"
    OTHER_HD = "other_hd"
    MISSING_HD = "missing_hd"
    ALG_NONE = "alg_none"
    HS256_WITH_PUBLIC_KEY = "hs256_with_public_key"
    UNKNOWN_KID = "unknown_kid"
    BAD_SIGNATURE = "bad_signature"


class SigningKeys:
    """The private keys, newest last, stored in `path` so that tokens outlive the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._keys: list[RSAKey | ECKey] = []
        if path is not None and path.exists():
            for entry in json.loads(path.read_text(encoding="utf-8"))["keys"]:
                self._keys.append((RSAKey if entry["kty"] == "RSA" else ECKey).import_key(entry))

    def current(self, alg: Alg) -> RSAKey | ECKey:
        """Return the newest key of `alg`. Create one if there is none."""
        newest = next((key for key in reversed(self._keys) if key.alg == alg), None)
        return newest or self.rotate(alg, keep_old=True)

    def rotate(self, alg: Alg, *, keep_old: bool) -> RSAKey | ECKey:
        key: RSAKey | ECKey
        if alg == "RS256":
            key = RSAKey.generate_key(RSA_KEY_BITS, parameters={"use": "sig", "alg": alg}, auto_kid=True)
        else:
            key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": alg}, auto_kid=True)
        self._keys = [*self._keys, key] if keep_old else [key]
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".new")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"keys": [each.as_dict(private=True) for each in self._keys]}, file)
            draft.replace(self._path)
        return key

    def published(self) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def sign(self, header: Mapping[str, Any], payload: str, alg: Alg) -> str:
        """Return a compact JWS of exactly this header and payload, even invalid ones."""
        key = self.current(alg)
        members = {"alg": alg, "kid": key.kid, "typ": "JWT", **header}
        kept = {name: value for name, value in members.items() if value is not None}
        signing_input = _unsigned(kept, payload)
        algorithm = jws.JWSRegistry(algorithms=[alg]).get_alg(alg)
        return f"{signing_input}.{base64url(algorithm.sign(signing_input.encode(), key))}"

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token signed here. Raise JoseError or ValueError."""
        return jwt.decode(token, KeySet([*self._keys]), algorithms=["RS256", "ES256"]).claims


def id_token(
    keys: SigningKeys, claims: Mapping[str, Any], faults: frozenset[Fault], alg: Alg, issuer: str, now_s: int
) -> str:
    """Return a token of `claims` (None omits one) plus issuer and times, with exactly the given faults."""
    members = {"iss": issuer, "iat": now_s, "exp": now_s + TOKEN_LIFETIME_S, **claims, **_wrong(faults, now_s)}
    payload = json.dumps({name: value for name, value in members.items() if value is not None})
    if Fault.ALG_NONE in faults:
        return _unsigned({"alg": "none"}, payload) + "."
    if Fault.HS256_WITH_PUBLIC_KEY in faults:
        # Key confusion attack: the public key is used as a shared secret.
        key = keys.current(alg)
        signing_input = _unsigned({"alg": "HS256", "kid": key.kid}, payload)
        digest = hmac.digest(key.as_pem(private=False), signing_input.encode(), "sha256")
        return f"{signing_input}.{base64url(digest)}"
    token = keys.sign({"kid": secrets.token_hex(20)} if Fault.UNKNOWN_KID in faults else {}, payload, alg)
    if Fault.BAD_SIGNATURE in faults:
        signing_input, _, signature = token.rpartition(".")
        return f"{signing_input}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    return token


def _unsigned(header: Mapping[str, Any], payload: str) -> str:
    return f"{base64url(json.dumps(header).encode())}.{base64url(payload.encode())}"


def _wrong(faults: frozenset[Fault], now_s: int) -> dict[str, Any]:
    wrong: dict[Fault, dict[str, Any]] = {
        Fault.WRONG_NONCE: {"nonce": secrets.token_hex(16)},
        Fault.WRONG_AUD: {"aud": "another-client", "azp": "another-client"},
        Fault.WRONG_ISS: {"iss": "https://issuer.invalid"},
        Fault.EXPIRED: {"iat": now_s - 2 * TOKEN_LIFETIME_S, "exp": now_s - TOKEN_LIFETIME_S},
        Fault.FUTURE_IAT: {"iat": now_s + TOKEN_LIFETIME_S, "exp": now_s + 2 * TOKEN_LIFETIME_S},
        Fault.EMAIL_UNVERIFIED: {"email_verified": False},
        Fault.OTHER_HD: {"hd": "another-domain.example"},
        Fault.MISSING_HD: {"hd": None},
    }
    return {name: value for fault in faults for name, value in wrong.get(fault, {}).items()}
