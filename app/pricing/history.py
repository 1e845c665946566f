"""Lists for admins: the versions of price books, and the models without a price."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app.db import Session
from app.pricing import queries

MAX_ACTIVATIONS = 10_000


async def list_versions(db: Session, now: datetime, *, before: int | None = None, limit: int) -> list[dict[str, Any]]:
    """Return the versions, newest first, each with its last activation and its state.

    The state is `proposed`, `scheduled`, `in_force` or `replaced`.
    """
    activations = await queries.list_activations(db, limit=MAX_ACTIVATIONS)
    last: dict[int, Mapping[str, Any]] = {}
    for activation in activations:
        last.setdefault(activation["version"], activation)
    in_force = _in_force(activations, now)
    return [
        dict(row) | _state(last.get(row["version"]), in_force, now)
        for row in await queries.list_versions(db, before=before, limit=limit)
    ]


def _in_force(activations: Sequence[Mapping[str, Any]], now: datetime) -> set[int]:
    found: dict[str, Mapping[str, Any]] = {}
    for activation in sorted(activations, key=lambda row: (row["effective_at"], row["activation_no"])):
        if activation["effective_at"] <= now:
            found[activation["currency"]] = activation
    return {activation["version"] for activation in found.values()}


def _state(activation: Mapping[str, Any] | None, in_force: set[int], now: datetime) -> dict[str, Any]:
    if activation is None:
        return {"state": "proposed", "effective_at": None, "activated_by": None}
    state = "replaced"
    if activation["version"] in in_force:
        state = "in_force"
    elif activation["effective_at"] > now:
        state = "scheduled"
    return {
        "state": state,
        "effective_at": activation["effective_at"],
        "activated_by": activation["activated_by"],
    }


async def list_unknown_models(db: Session, *, limit: int) -> list[dict[str, Any]]:
    """Return the models without a price, the last seen first."""
    return [dict(row) for row in await queries.list_unknown_models(db, limit=limit)]
