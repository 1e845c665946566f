"""Encryption of secrets at rest: AES-256-GCM under one of several keys. Their ids allow rotation."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.configuration.errors import EncryptionNotConfigured

NONCE_BYTES = 12


class CannotOpen(Exception):
    """The sealing key is not configured, or the stored bytes were changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    key_id: str
    data: bytes
    """The nonce, then the ciphertext with its tag."""


class Sealer:
    """Seals under the first key, opens under any. Keys are 32 bytes in base64; the settings check that.

    `what` is bound to the text, so a text that is sealed for one row opens for no other.
    """

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        self._keys = {key_id: AESGCM(base64.b64decode(key.get_secret_value())) for key_id, key in keys.items()}

    @property
    def key_id(self) -> str | None:
        """The id of the sealing key. None: no key is configured."""
        return next(iter(self._keys), None)

    def seal(self, text: str, what: str) -> Sealed:
        """Raises EncryptionNotConfigured."""
        if self.key_id is None:
            raise EncryptionNotConfigured
        nonce = os.urandom(NONCE_BYTES)
        return Sealed(self.key_id, nonce + self._keys[self.key_id].encrypt(nonce, text.encode(), what.encode()))

    def open(self, sealed: Sealed, what: str) -> str:
        """Raises CannotOpen."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise CannotOpen(f"ENCRYPTION_KEYS has no key {sealed.key_id}")
        try:
            return key.decrypt(sealed.data[:NONCE_BYTES], sealed.data[NONCE_BYTES:], what.encode()).decode()
        except InvalidTag:
            raise CannotOpen("the stored secret was changed, or sealed by another key of the same id") from None
