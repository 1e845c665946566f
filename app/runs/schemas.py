"""Wire format of runs. Credits are in hundredths, as `amount_minor`; money is an exact decimal text, as `amount`."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from app.accounts.schemas import UserFields
from app.errors import InvalidRequest
from app.http.schemas import Reply, RunId, Timestamp
from app.ledger.amounts import GrantMinor
from app.ledger.money import decimal_text, nanos_of_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, credits_of_grant
from app.ledger.runs import PauseReason, RunStatus
from app.metering.json_values import bounded_json
from app.runs.receipt import Receipt, Row
from app.runs.service import Budget, NewRun, RunChange

DOT_SEGMENTS = (".", "..")


def _nanos(value: object) -> int:
    """Return the nanos of a decimal text that is not negative. JSON numbers are refused."""
    if not isinstance(value, str):
        raise ValueError('must be a decimal number as text, such as "5.00"')
    nanos = nanos_of_text(value)
    if nanos < 0:
        raise ValueError("must not be negative")
    return nanos


def _no_dot_segment(run_id: str) -> str:
    if run_id in DOT_SEGMENTS:
        raise ValueError("must not be a dot segment of a path")
    return run_id


Money = Annotated[
    int,
    BeforeValidator(_nanos),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,9})?$", "examples": ["5.00"]}),
]
NewRunId = Annotated[RunId, AfterValidator(_no_dot_segment)]


class BudgetBody(BaseModel):
    """The most that a run and the runs below it may spend, in credits or in money."""

    amount_minor: Annotated[GrantMinor, Field(ge=0)] | None = None
    amount: Money | None = Field(default=None, description="In the major unit of the account's currency.")

    @model_validator(mode="after")
    def _has_one_amount(self) -> Self:
        if (self.amount_minor is None) == (self.amount is None):
            raise ValueError("give either amount_minor (credits) or amount (money)")
        return self

    def budget(self) -> Budget:
        if self.amount_minor is not None:
            return Budget(credits_of_grant(self.amount_minor), is_money=False)
        return Budget(self.amount or 0, is_money=True)


class RunBody(UserFields):
    run_id: NewRunId = Field(description="Unique among the user's runs.")
    parent_run_id: RunId | None = Field(
        default=None, description="The run above it, which is open. The spending of this run counts there, too."
    )
    budget: BudgetBody | None = Field(default=None, description="null: only the budgets of its ancestors bound it.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Stored with the run, up to 16 KiB.")

    def new_run(self) -> NewRun:
        """Return the run. Raises InvalidRequest if its metadata cannot be stored."""
        try:
            details = dict(json.loads(bounded_json("metadata", self.metadata)))
        except ValueError as error:
            raise InvalidRequest(str(error), field="metadata") from None
        budget = None if self.budget is None else self.budget.budget()
        return NewRun(self.run_id, self.parent_run_id, budget, details)


class RunChangeFields(BaseModel):
    budget: BudgetBody | None = Field(default=None, description="null removes the budget. Absent: it stays.")
    status: RunStatus | None = Field(default=None, description="A closed run stays closed.")

    def change(self) -> RunChange:
        budget = None if self.budget is None else self.budget.budget()
        return RunChange("budget" in self.model_fields_set, budget, self.status)


class RunChangeBody(UserFields, RunChangeFields):
    """A lower budget, `paused` or `closed`. Only an admin raises a budget and opens a paused run."""


class Amounts(Reply):
    amount_minor: int | None = Field(description="Credits, in hundredths.")
    amount: str | None = Field(description="Money, in the major unit of the account's currency.")

    @classmethod
    def of_unit(cls, unit: str, amount: int) -> Self:
        if unit == CREDIT:
            return cls(amount_minor=amount * MINOR_PER_CREDIT, amount=None)
        return cls(amount_minor=None, amount=decimal_text(amount))

    @classmethod
    def both(cls, credits: int, nanos: int) -> Self:
        return cls(amount_minor=credits * MINOR_PER_CREDIT, amount=decimal_text(nanos))


class RunReply(Reply):
    """A run. `spent` is of the run and all runs below it, with their open holds and cost records."""

    run_id: str
    parent_run_id: str | None
    depth: int = Field(description="1: it has no parent.")
    status: RunStatus
    pause_reason: PauseReason | None = Field(description="`burn_rate`: it spent too fast.")
    budget: Amounts | None
    remaining: Amounts | None = Field(description="Of this budget. The ancestors may leave less.")
    spent: Amounts
    uses: int = Field(description="Charges, tool uses, usage events, holds and cost records.")
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp
    closed_at: Timestamp | None

    @classmethod
    def of(cls, run: Row, **more: object) -> Self:
        same = ("parent_run_id", "status", "pause_reason", "uses", "metadata")
        unit, budget = run["unit"], run["budget"]
        spent = run["spent_credits"] if unit == CREDIT else run["spent_nanos"]
        return cls(
            **{name: run[name] for name in (*same, "created_at", "updated_at", "closed_at")},
            run_id=run["run_id"] or "",
            depth=len(run["ancestors"]) + 1,
            budget=None if unit is None else Amounts.of_unit(unit, budget),
            remaining=None if unit is None else Amounts.of_unit(unit, max(0, budget - spent)),
            spent=Amounts.both(run["spent_credits"], run["spent_nanos"]),
            **more,
        )


class Calls(Reply):
    """Calls of one kind that have the same agent, tool, model and outcome."""

    kind: Literal["charge", "tool_charge", "usage", "hold", "cost_record"]
    agent_id: str | None
    tool: str | None = Field(description="The tool or the product.")
    model: str | None = Field(description="Of usage without a model, its meter.")
    outcome: str = Field(description="`charged`, or the status of the event, hold or cost record.")
    calls: int
    attempts: int = Field(description="Of refused usage: how often it was sent.")
    spent: Amounts
    returned: Amounts = Field(description="Cancelled: held and not captured, or recorded by work that failed.")

    @classmethod
    def of(cls, row: Row) -> Self:
        same = ("kind", "agent_id", "tool", "model", "outcome", "calls", "attempts")
        return cls(
            **{name: row[name] for name in same},
            spent=Amounts.both(int(row["credits"]), int(row["nanos"])),
            returned=Amounts.both(int(row["returned_credits"]), int(row["returned_nanos"])),
        )


class ReceiptReply(RunReply):
    """A run, what it did itself (`calls`), and the runs below it (`runs`)."""

    calls: list[Calls]
    runs: list["ReceiptReply"]
    is_complete: bool = Field(
        description="False: it did more, or has more runs below it, than a receipt lists. `spent` is always exact."
    )

    @classmethod
    def of_receipt(cls, receipt: Receipt) -> Self:
        return cls.of(
            receipt.run,
            calls=[Calls.of(row) for row in receipt.calls],
            runs=[cls.of_receipt(below) for below in receipt.runs],
            is_complete=receipt.is_complete,
        )


class RunsReply(Reply):
    runs: list[RunReply]
    has_more: bool
