"""Limits of an account's spending."""

from collections.abc import Mapping
from datetime import datetime

from ciris_billing.models import Reply
from ciris_billing.usage import Amount


class SpendingLimit(Reply):
    """A limit with the counter of its current window. `amount` and `spent` are whole credits or uses, or exact money in
    the currency's major unit."""

    id: str
    scope: str
    """`account`, `key`, `agent`, `model` or `tool`."""
    scope_value: str | None
    window: str
    """`minute`, `hour`, `day`, `month` or `lifetime`."""
    unit: str
    """`credits`, `uses`, or the currency of money."""
    amount: Amount
    spent: Amount
    resets_at: datetime | None
    action: str
    """`refuse` or `notify`."""
    owner: str
    """`user` or `operator`."""
    crossed_at: datetime | None
    created_at: datetime


class SpendingLimits(Reply):
    """The limits of an account, shorter windows first."""

    limits: list[SpendingLimit]


def scope_of(scope: Mapping[str, str] | str | None) -> Mapping[str, str] | None:
    """Return a scope as the service reads it. A text such as "agent:scout" names the type and the value."""
    if not isinstance(scope, str):
        return scope
    kind, separator, value = scope.partition(":")
    return {"type": kind, "value": value} if separator else {"type": kind}
