"""Facts of changed limits for the audit log. Admins, API keys and users record the same ones."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from app.ledger.limits import Limit
from app.ledger.units import amount_text, unit_text

SET, REMOVED = "account.set_limit", "account.remove_limit"
Facts: TypeAlias = Mapping[str, Any]


def facts_of_change(limit: Limit, amount_before: int | None) -> tuple[Facts | None, Facts]:
    """Return the facts before and after a limit was set. The first are None for a new limit."""
    before = None if amount_before is None else {"amount": amount_text(limit.unit, amount_before)}
    return before, _facts(limit) | {"amount": amount_text(limit.unit, limit.amount)}


def facts_of_removal(limit: Limit) -> tuple[Facts, Facts]:
    """Return the facts before and after a limit was removed."""
    return {"amount": amount_text(limit.unit, limit.amount)}, _facts(limit)


def _facts(limit: Limit) -> dict[str, Any]:
    """Return what the limit is about, without the name in its scope: a user may have chosen it."""
    return {
        "limit_id": limit.wire_id,
        "scope": limit.scope,
        "window": limit.window,
        "unit": unit_text(limit.unit),
        "action": limit.action,
        "owner": limit.owner,
    }
