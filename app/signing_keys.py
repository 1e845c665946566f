"""Signing keys of statements, as the setting SIGNING_KEYS has them: JSON Web Keys of Ed25519 (RFC 8037)."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

KEY_BYTES = 32


def base64url(content: bytes) -> str:
    """Return base64url without padding, as JSON Web Signatures and Keys have it."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _key_bytes(member: str, text: str) -> bytes:
    try:
        decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        decoded = b""
    if len(decoded) != KEY_BYTES or base64url(decoded) != text or not any(decoded):
        raise ValueError(f"{member} is not {KEY_BYTES} bytes in base64url")
    return decoded


class SigningKey(BaseModel):
    """A key pair, or (without `d`) a retired public key. `kid` is its id in statements and in the published keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    x: str
    d: SecretStr | None = None
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"

    @model_validator(mode="after")
    def _is_one_key_pair(self) -> Self:
        public = _key_bytes("x", self.x)
        if self.d is not None and self.private_key().public_key().public_bytes_raw() != public:
            raise ValueError("x and d are not one key pair")
        return self

    def private_key(self) -> Ed25519PrivateKey:
        """Return the private key of a key with `d`."""
        assert self.d is not None, "retired"
        return Ed25519PrivateKey.from_private_bytes(_key_bytes("d", self.d.get_secret_value()))

    def public(self) -> dict[str, str]:
        """Return the public JSON Web Key."""
        return {"kty": self.kty, "crv": self.crv, "kid": self.kid, "x": self.x, "use": self.use, "alg": self.alg}


def new_signing_key() -> dict[str, Any]:
    """Return a new key pair as SIGNING_KEYS has it. Its id is its thumbprint (RFC 7638)."""
    private = Ed25519PrivateKey.generate()
    x = base64url(private.public_key().public_bytes_raw())
    required = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    kid = base64url(hashlib.sha256(required.encode()).digest())
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "d": base64url(private.private_bytes_raw())}


def check_signing_keys(keys: list[SigningKey]) -> list[SigningKey]:
    """Raise ValueError if an id is there twice: it would not say which key verifies a statement."""
    ids = [key.kid for key in keys]
    if repeated := {kid for kid in ids if ids.count(kid) > 1}:
        raise ValueError(f"SIGNING_KEYS has the id {min(repeated)} twice")
    return keys
