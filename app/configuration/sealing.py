"""Secrets at rest: AES-256-GCM under one of several keys, each with an id, so that keys can be changed."""

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
    """The key that sealed it is not among ours, or what is stored has been tampered with."""


@dataclass(frozen=True, slots=True)
class Sealed:
    key_id: str
    data: bytes
    """The nonce, then the ciphertext with its tag."""


class Sealer:
    """Seals under the first key, opens under any. Keys are 32 bytes in base64, as the settings have checked.

    `what` is bound to the text: sealed for one row, it opens for no other.
    """

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        self._keys = {key_id: AESGCM(base64.b64decode(key.get_secret_value())) for key_id, key in keys.items()}

    @property
    def key_id(self) -> str | None:
        """Of the key that seals; None when there is none."""
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
