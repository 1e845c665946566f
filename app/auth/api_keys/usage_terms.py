"""Rules for an API key's usage terms."""

import re
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from app.auth.api_keys.keys import NO_TERMS, UsageTerms
from app.auth.caller import DoubleCharges, Permission
from app.db import Database
from app.db.version_mark import VersionMark
from app.errors import InvalidRequest

MAX_PROVIDER_CHARS = 255
MAX_NANOS = 2**53 - 1
"""About nine million major units. Larger numbers are not exact in JavaScript."""
SOURCE = re.compile(r"[!-~]{1,255}")
"""A CloudEvents source is a URI reference: it has no spaces."""

KNOWN_BEFORE = frozenset({Permission.READ, Permission.WRITE, Permission.CREDIT})
"""The permissions that versions before KNOWN_SINCE can read. Others make their list of keys fail."""
KNOWN_SINCE = "0026"
DOUBLE_CHARGES_SINCE = "0044"
"""Versions before do not find double charges, and do not record what to find them by."""


async def require_readable(
    db: Database,
    permissions: Collection[Permission],
    terms: UsageTerms = NO_TERMS,
    double_charges: DoubleCharges = "ignore",
) -> None:
    """Raise UpgradeInProgress if a version that may still run could not serve a key with these values."""
    if double_charges != "ignore":
        await VersionMark(db).require(DOUBLE_CHARGES_SINCE)
    if terms != NO_TERMS or not KNOWN_BEFORE.issuperset(permissions):
        await VersionMark(db).require(KNOWN_SINCE)


def checked_terms(terms: UsageTerms, permissions: Collection[Permission]) -> dict[str, Any]:
    """Return the column values of usage terms. Raise InvalidRequest, which names the field."""
    provider, source = terms.identity_provider, terms.event_source
    if provider is not None and not (
        len("oauth:") < len(provider) <= MAX_PROVIDER_CHARS and provider.startswith("oauth:") and provider.isprintable()
    ):
        raise InvalidRequest(
            f"identity_provider must be `oauth:` and a name, {MAX_PROVIDER_CHARS} characters at most",
            field="identity_provider",
        )
    if source is not None and SOURCE.fullmatch(source) is None:
        raise InvalidRequest("event_source must have 1 to 255 ASCII characters, without spaces", field="event_source")
    for field in ("debt_limit_nanos", "max_cost_nanos"):
        nanos = getattr(terms, field)
        if nanos is not None and not 0 <= nanos <= MAX_NANOS:
            raise InvalidRequest(f"{field} must be 0 to {MAX_NANOS}", field=field)
    if terms.usage_policy == "debt" and terms.debt_limit_nanos is None:
        raise InvalidRequest("debt_limit_nanos is required with the usage policy `debt`", field="debt_limit_nanos")
    if Permission.USAGE_SET_COST in permissions and terms.max_cost_nanos is None:
        raise InvalidRequest(
            "max_cost_nanos is required with the permission usage:set_cost: it bounds the cost of one event",
            field="max_cost_nanos",
        )
    return asdict(terms)
