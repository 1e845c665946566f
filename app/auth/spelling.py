"""Spellings of identities: which ones are taken for one person's, where the operator lists the provider."""

import unicodedata
from collections.abc import Iterable


class FoldedProviders:
    """Providers whose new identities are stored in small letters and in Unicode's form NFC.

    Letters are made small one by one (`str.lower`), not case-folded: folding would make one person of `straße` and
    `strasse`, who may be two.
    """

    def __init__(self, providers: Iterable[str]) -> None:
        self._providers = frozenset(map(_small, providers))

    def fold(self, oauth_provider: str, external_id: str) -> tuple[str, str]:
        """The spelling under which a new identity is stored; as it is for providers that are not listed."""
        provider = _small(oauth_provider)
        if provider not in self._providers:
            return oauth_provider, external_id
        return provider, _small(external_id)


def _small(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
