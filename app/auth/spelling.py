"""Spellings of identities: which ones count as the same person, for providers that the operator lists."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Self

from app.settings import Settings

_UUID_DIGITS = re.compile(r"[0-9a-fA-F]{32}")


class FoldedProviders:
    """Providers whose new identities are stored in lower case and in Unicode's form NFC.

    Letters are lower-cased one by one (`str.lower`), not case-folded: folding would merge `straße` and `strasse`, who
    may be two people. The `with_uuids` are providers whose UUIDs are stored in one spelling.
    """

    def __init__(self, providers: Iterable[str], with_uuids: Iterable[str] = ()) -> None:
        self._providers = frozenset(map(_small, providers))
        self._with_uuids = frozenset(with_uuids)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the listed providers, and those of the configured issuers: their tokens contain users' UUIDs."""
        return cls(settings.folded_providers, (issuer.provider for issuer in settings.issuers))

    def fold(self, oauth_provider: str, external_id: str) -> tuple[str, str]:
        """Return the spelling under which a new identity is stored; unchanged for providers that are not listed."""
        if oauth_provider in self._with_uuids:
            external_id = canonical_uuid(external_id)
        provider = _small(oauth_provider)
        if provider not in self._providers:
            return oauth_provider, external_id
        return provider, _small(external_id)


def canonical_uuid(text: str) -> str:
    """Return a UUID in lower case with hyphens, from any usual spelling: `{3F2504E0-…}`, `urn:uuid:…`, no hyphens.

    Any other text is returned unchanged.
    """
    bare = text[9:] if text[:9].lower() == "urn:uuid:" else text
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    digits = bare.replace("-", "")
    if _UUID_DIGITS.fullmatch(digits) is None:
        return text
    digits = digits.lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _small(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
