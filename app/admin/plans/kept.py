"""Kept terms: which subscribers keep which version of a plan, and the versions that changed a plan. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.configuration.editing import Version
from app.plans.document import Plan, Plans


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan as some of its subscribers keep it."""

    plan: Plan
    subscribers: int
    past_due: int
    first_at: datetime
    last_at: datetime
    """When the first and the last of them began to keep it."""


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """A version of the configuration that added a plan or changed it."""

    version: Version
    plan: Plan


def merged(rows: Iterable[Mapping[str, Any]]) -> list[Kept]:
    """Return the kept terms, those that were kept last first. Documents that mean the same plan are merged."""
    found: dict[str, Kept] = {}
    for row in rows:
        plan = Plan.model_validate(row["terms"])
        new = Kept(plan, row["subscribers"], row["past_due"], row["first_at"], row["last_at"])
        text = plan.model_dump_json()
        found[text] = new if text not in found else _joined(found[text], new)
    return sorted(found.values(), key=lambda kept: kept.last_at, reverse=True)


def _joined(one: Kept, other: Kept) -> Kept:
    return replace(
        one,
        subscribers=one.subscribers + other.subscribers,
        past_due=one.past_due + other.past_due,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
    )


def subscribers_of(plan: Plan, kept: Iterable[Kept]) -> int:
    """Return the number of subscribers who keep exactly this version of a plan."""
    return sum(one.subscribers for one in kept if one.plan == plan)


def changes_of(name: str, versions: Sequence[Version], before: Mapping[str, Any] | None) -> list[PlanVersion]:
    """Return those of the versions, newest first, that added the plan or changed it.

    Each version has its document. `before` is that of the version before the oldest one.
    """
    found = []
    documents = [version.document for version in versions] + [before]
    for version, document, earlier in zip(versions, documents, documents[1:], strict=False):
        plan = _plan_in(document, name)
        if plan is not None and plan != _plan_in(earlier, name):
            found.append(PlanVersion(version, plan))
    return found


def _plan_in(document: Mapping[str, Any] | None, name: str) -> Plan | None:
    return None if document is None else Plans.model_validate(document).find(name)
