"""Wire format of explanations."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from app.auth.caller import Actor
from app.billing.schemas import ChargeReply
from app.holds.schemas import HoldReply
from app.http.schemas import Reply
from app.ledger.limit_schemas import EvaluatedLimitReply
from app.ledger.move_schemas import MoveReply
from app.ledger.pools import MINOR_PER_CREDIT


class CallerReply(Reply):
    """The caller that the ledger names. An API key's secret is never shown."""

    type: Literal["api_key", "user", "admin", "stripe", "system"]
    key_id: str | None = Field(description="Of an API key.")
    key_name: str | None

    @classmethod
    def of(cls, actor: Actor, key_name: str | None) -> Self:
        return cls(type=actor.type, key_id=actor.key_id, key_name=key_name)


class PaidFromReply(Reply):
    """The kinds of credits that paid, in hundredths."""

    daily_free_minor: int
    grants_minor: int
    free_minor: int
    paid_minor: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        parts = ("daily_free", "grants", "free", "paid")
        return cls(**{f"{name}_minor": row[f"from_{name}"] * MINOR_PER_CREDIT for name in parts})


class ChargeExplanation(Reply):
    """The price of a charge, and the balances that paid for it."""

    charge: ChargeReply
    operation: Literal["charge", "tool_charge"] = Field(description="`tool_charge`: the main pool paid for a tool.")
    cost_minor: int = Field(description="`amount_minor` rounded up to whole credits.")
    paid_from: PaidFromReply
    moves: list[MoveReply] = Field(description="In their order. A captured hold's move is in the pool `held`.")
    limits: list[EvaluatedLimitReply] = Field(
        description="The limits that allowed it, or the captured hold. Kept for 93 days."
    )
    caller: CallerReply | None = Field(description="null: unknown.")
    hold_id: str | None = Field(description="The captured hold.")
    run_id: str | None = Field(description="Of the charge, or of the captured hold.")
    request_id: str | None
    agent_id: str | None


class HoldExplanation(Reply):
    """The balances that a hold took its amount from, and the moves of its settlement."""

    hold: HoldReply
    moves: list[MoveReply] = Field(description="Of the opening and of the settlement, in their order.")
    limits: list[EvaluatedLimitReply] = Field(description="The limits that allowed the opening. Kept for 93 days.")
    caller: CallerReply | None = Field(description="Of the opening. null: unknown.")
