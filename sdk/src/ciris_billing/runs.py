"""Runs: budgets that an agent shares with the agents that it starts.

async with billing.run(user, run_id="report-7", credits=50) as run:
    await billing.charge(user, interaction_id=message_id, run_id=run.run_id)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict

from ciris_billing.holds import amount_fields
from ciris_billing.models import Reply, User, without_none
from ciris_billing.usage import Amount, payer

RunStatus = Literal["open", "paused", "closed"]


def budget_fields(
    credits: int | None = None, amount_minor: int | None = None, amount: Decimal | str | int | None = None
) -> dict[str, Any] | None:
    """Return a budget: whole credits, hundredths of a credit, or money. None: none is given. Raises TypeError for more
    than one, and for a float."""
    if credits is None and amount_minor is None and amount is None:
        return None
    return amount_fields(credits, amount_minor, amount)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOpening:
    """A run to register: of a `User`, or of a `user_id` (the external id under the identity provider of the API key).

    `run_id` is your name of the run. A run below `parent_run_id` counts in the budgets of all runs above it, too. Its
    budget is in whole `credits`, or in `amount_minor` (hundredths of a credit), or in money: `amount`, exact and in the
    currency's major unit. Without one, only the runs above it bound it.
    """

    run_id: str
    user: User | None = None
    user_id: str | None = None
    parent_run_id: str | None = None
    credits: int | None = None
    amount_minor: int | None = None
    amount: Decimal | str | int | None = None
    metadata: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """Return the run as the service reads it."""
        budget = budget_fields(self.credits, self.amount_minor, self.amount)
        given = {"parent_run_id": self.parent_run_id, "budget": budget, "metadata": self.metadata}
        return {**payer(self.user, self.user_id), "run_id": self.run_id, **without_none(given)}


class RunFields(TypedDict, total=False):
    """The fields of a RunOpening without its user and its id, as keyword arguments."""

    user_id: str | None
    parent_run_id: str | None
    credits: int | None
    amount_minor: int | None
    amount: Decimal | str | int | None
    metadata: Mapping[str, Any] | None


class Amounts(Reply):
    """Credits in hundredths (`amount_minor`) and money (`amount`). A budget has one of the two."""

    amount_minor: int | None
    amount: Amount | None


class Run(Reply):
    """A run. `spent` is of the run and of all runs below it, with their open holds and cost records."""

    run_id: str
    parent_run_id: str | None
    depth: int
    status: str
    """`open`, `paused` or `closed`."""
    pause_reason: str | None
    """`requested`, or `burn_rate`: it spent too fast."""
    budget: Amounts | None
    remaining: Amounts | None
    """Of this budget. The runs above it may leave less."""
    spent: Amounts
    uses: int
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None


class RunCalls(Reply):
    """Calls of one kind with the same agent, tool, model and outcome."""

    kind: str
    """`charge`, `tool_charge`, `usage`, `hold` or `cost_record`."""
    agent_id: str | None
    tool: str | None
    model: str | None
    outcome: str
    calls: int
    attempts: int
    """Of refused usage: how often it was sent."""
    spent: Amounts
    returned: Amounts
    """The released part of holds, and the cost of work that failed."""


class RunReceipt(Run):
    """A run with its own calls, and the runs below it. `is_complete` is false if there is more than it lists."""

    calls: list[RunCalls]
    runs: list["RunReceipt"]
    is_complete: bool


class RunPage(Reply):
    runs: list[Run]
    has_more: bool
