"""Signatures of statements: a compact JSON Web Signature (RFC 7515) with Ed25519 (RFC 8037).

The signed bytes begin with the header, and the header with the fixed TYPE. So no signature of a statement is valid for
anything else that these keys may sign one day. The payload is signed as it is sent: a verifier re-serializes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.receipts.errors import SigningNotConfigured
from app.signing_keys import SigningKey, base64url

TYPE = "ciris-billing-statement-v1"


class Signer:
    """Signs with the first key that has a private part. `published`: the public parts of all keys."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.published = {"keys": [key.public() for key in keys]}
        first = next((key for key in keys if key.d is not None), None)
        self._key_id = first.kid if first is not None else ""
        self._key = first.private_key() if first is not None else None

    @property
    def key_id(self) -> str:
        """The id of the key that signs. Raises SigningNotConfigured."""
        if self._key is None:
            raise SigningNotConfigured
        return self._key_id

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Return the signed payload. Raises SigningNotConfigured."""
        if self._key is None:
            raise SigningNotConfigured
        header = {"typ": TYPE, "alg": "EdDSA", "kid": self._key_id}
        signed = f"{_encoded(header)}.{_encoded(payload)}"
        return f"{signed}.{base64url(self._key.sign(signed.encode()))}"


def _encoded(value: Mapping[str, Any]) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
