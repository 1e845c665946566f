"""Default limits: bounds of the spending of an issuer's users, from the start (`Issuer.default_limits`).

A new account gets them in the transaction that creates it; the worker gives them to accounts that are older. They are
the operator's, so users set lower ones beside them. A default limit that was changed or removed does not return.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Self
from uuid import UUID

from app.configuration.service import Configuration
from app.db import Database, new_id
from app.db.version_mark import VersionMark
from app.ledger.limits import Limit, Window, window_start
from app.ledger.locked_account import LockedAccount
from app.ledger.money import nanos_of_text

SINCE = "0036"
"""Versions before this revision do not count (ADR 26)."""
Amounts = Mapping[Window, int]
"""Nanos of the account's currency, by window."""


class DefaultLimits:
    def __init__(self, db: Database, by_provider: Mapping[str, Amounts], zone: tzinfo) -> None:
        self._mark = VersionMark(db)
        self.by_provider = by_provider
        self._zone = zone

    @classmethod
    def of(cls, db: Database, configuration: Configuration) -> Self:
        settings = configuration.settings
        found: dict[str, Amounts] = {}
        for issuer in settings.all_issuers:
            if issuer.default_limits:
                found[issuer.provider] = {w: nanos_of_text(text) for w, text in issuer.default_limits.items()}
        return cls(db, found, settings.time_zone)

    async def are_for(self, provider: str) -> bool:
        """Return whether new accounts of a provider get limits: not while an older version may run."""
        return provider in self.by_provider and await self._mark.excludes_before(SINCE)

    def limits_of(self, account: LockedAccount, provider: str, now: datetime) -> Sequence[Limit]:
        """Return the limits of a new account. Nothing is stored yet."""
        return [
            default_limit(account.account_id, window, account.currency, amount, now, self._zone)
            for window, amount in self.by_provider[provider].items()
        ]


def default_limit(account_id: UUID, window: Window, currency: str, amount: int, now: datetime, zone: tzinfo) -> Limit:
    """Return a limit of an account's money that the operator sets."""
    return Limit(
        account_id=account_id,
        limit_id=new_id(),
        scope="account",
        scope_value="",
        window=window,
        unit=currency,
        amount=amount,
        action="refuse",
        owner="operator",
        created_at=now,
        window_start=window_start(window, now, zone),
    )
