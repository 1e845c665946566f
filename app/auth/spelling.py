"""Spellings of identities: which ones count as the same person, for providers that the operator lists."""

import unicodedata
from collections.abc import Iterable


class FoldedProviders:
    """Providers whose new identities are stored in lower case and in Unicode's form NFC.

    Letters are lower-cased one by one (`str.lower`), not case-folded: folding would merge `straße` and `strasse`, who
    may be two people.
    """

    def __init__(self, providers: Iterable[str]) -> None:
        self._providers = frozenset(map(_small, providers))

    def fold(self, oauth_provider: str, external_id: str) -> tuple[str, str]:
        """Return the spelling under which a new identity is stored; unchanged for providers that are not listed."""
        provider = _small(oauth_provider)
        if provider not in self._providers:
            return oauth_provider, external_id
        return provider, _small(external_id)


def _small(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
