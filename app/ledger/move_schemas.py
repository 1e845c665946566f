"""Wire format of moves of balances, in explanations."""

from collections.abc import Iterable
from typing import Self
from uuid import UUID

from pydantic import Field

from app.http.schemas import Reply, Timestamp
from app.ledger.money import decimal_text
from app.ledger.moves import GrantFacts, Move
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT


class MovedGrantReply(Reply):
    """The grant that a move spent from or returned to."""

    grant_id: UUID
    source: str
    category: str
    priority: int
    expires_at: Timestamp | None

    @classmethod
    def of(cls, grant: GrantFacts) -> Self:
        return cls(**{name: getattr(grant, name) for name in GrantFacts.__slots__})


class MoveReply(Reply):
    """A move of one balance. Credits are in `*_minor`, in hundredths; money is exact text; the others are null."""

    pool: str = Field(description="Such as `daily_free`, `grant`, `free`, `paid`, `money`, `held`, `web_search/free`.")
    grant: MovedGrantReply | None = Field(description="Of the pool `grant`, whose balance is what remains of it.")
    reason: str = Field(examples=["charge", "usage", "hold", "hold_release", "daily_allowance"])
    unit: str = Field(description="`credit`, or a currency.")
    before_minor: int | None
    change_minor: int | None
    after_minor: int | None
    before: str | None
    change: str | None
    after: str | None
    time: Timestamp

    @classmethod
    def of(cls, move: Move) -> Self:
        amounts = {"before": move.balance_before, "change": move.delta, "after": move.balance_after}
        is_credits = move.unit == CREDIT
        return cls(
            pool=move.pool,
            grant=None if move.grant is None else MovedGrantReply.of(move.grant),
            reason=move.kind,
            unit=move.unit,
            time=move.created_at,
            **{f"{name}_minor": value * MINOR_PER_CREDIT if is_credits else None for name, value in amounts.items()},
            **{name: None if is_credits else decimal_text(value) for name, value in amounts.items()},
        )


def replies_of(moves: Iterable[Move]) -> list[MoveReply]:
    return [MoveReply.of(move) for move in moves]
