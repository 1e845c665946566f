"""Wire format of event streams and tickets. Credits are in hundredths, as `…_minor`; money is an exact decimal text."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import Field

from app.cost_records import ids as cost_record_ids
from app.holds import ids as hold_ids
from app.http.schemas import Reply, Timestamp
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, daily_free_on

EndReason = Literal["client", "credential", "lifetime", "draining", "account_closed", "slow_reader", "unavailable"]
END_REASONS = ("credential", "lifetime", "draining", "account_closed", "unavailable")
"""The reasons in events: a client that left, or reads nothing, gets none."""
_ID_ON_THE_WIRE = {"hold": hold_ids.text_of, "cost_record": cost_record_ids.text_of}


class BalanceState(Reply):
    """The account's balance and status, in the fields and units of its other reads."""

    account_id: UUID
    entry_no: int = Field(description="The last ledger entry that the balance includes.")
    status: Literal["active", "suspended", "closed"]
    currency: str
    plan_name: str
    balance_minor: int = Field(description="`paid_credits` in hundredths.")
    paid_credits: int = Field(description="Paid credits, and grants that have not expired.")
    free_uses_remaining: int
    daily_free_uses_remaining: int
    daily_free_uses_limit: int
    total_uses: int
    held_minor: int = Field(description="Credits in open holds, in hundredths.")
    balance: str = Field(description="Money, and grants of money that have not expired.")
    held: str = Field(description="Money in open holds.")
    debt: str = Field(description="Money that was used and not paid.")

    @classmethod
    def of(cls, row: Mapping[str, Any], *, allowance: int, today: date) -> Self:
        paid = row["paid"] + row["grants_credits"]
        return cls(
            account_id=row["account_id"],
            entry_no=row["last_entry_no"],
            status=row["status"],
            currency=row["currency"],
            plan_name=row["plan_name"],
            balance_minor=paid * MINOR_PER_CREDIT,
            paid_credits=paid,
            free_uses_remaining=row["free"],
            daily_free_uses_remaining=daily_free_on(
                today, left=row["daily_free"], day=row["daily_free_day"], allowance=allowance
            ),
            daily_free_uses_limit=allowance,
            total_uses=row["total_uses"],
            held_minor=row["held_credits"] * MINOR_PER_CREDIT,
            balance=decimal_text(row["money_nanos"] + row["grants_money_nanos"]),
            held=decimal_text(row["held_money_nanos"]),
            debt=decimal_text(row["money_debt_nanos"]),
        )


class EntryState(Reply):
    """One ledger entry. Amounts are signed: negative leaves the pool."""

    entry_no: int
    kind: str = Field(examples=["charge", "purchase", "hold"])
    pool: str = Field(
        description="`paid`, `free`, `daily_free`, `grant`, `held`, `money`, a product's such as `x/free`…"
    )
    grant_id: UUID | None = Field(description="The grant that moved, in the pool `grant`.")
    unit: str = Field(description="`credit`, or the currency of money.")
    amount_minor: int | None = Field(description="Credits or uses, in hundredths. null for money.")
    balance_after_minor: int | None = Field(description="The pool's balance after it, in hundredths. null for money.")
    amount: str | None = Field(description="Money. null for credits.")
    balance_after: str | None = Field(description="The pool's money after it. null for credits.")
    reference_type: str = Field(description="The kind of its cause: `charge`, `credit`, `hold`, `usage_event`…")
    reference_id: str = Field(description="Its id, such as a `charge_id`, a `hold_id` or a `transaction_id`.")
    run_id: str | None = Field(
        description="The run that its charge, tool use, hold, usage event or cost record named. A captured hold's "
        "charge has none: see the hold."
    )
    created_at: Timestamp

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        is_credits = row["unit"] == CREDIT
        amounts = (row["delta"], row["balance_after"])
        minor = [amount * MINOR_PER_CREDIT for amount in amounts] if is_credits else [None, None]
        money = [None, None] if is_credits else [decimal_text(amount) for amount in amounts]
        on_the_wire = _ID_ON_THE_WIRE.get(row["cause_type"])
        cause_id = row["cause_id"]
        return cls(
            entry_no=row["entry_no"],
            kind=row["kind"],
            pool=row["pool"],
            grant_id=row["grant_id"],
            unit=row["unit"],
            amount_minor=minor[0],
            balance_after_minor=minor[1],
            amount=money[0],
            balance_after=money[1],
            reference_type=row["cause_type"],
            reference_id=str(cause_id) if on_the_wire is None else on_the_wire(row["account_id"], cause_id),
            run_id=row["run_id"],
            created_at=row["created_at"],
        )


class TicketReply(Reply):
    ticket: str = Field(description="For the query of one `GET /v1/accounts/me/events`, from the same `Origin`.")
    expires_at: Timestamp
    expires_in_s: int


def _schema_of(reply: type[Reply]) -> dict[str, Any]:
    return reply.model_json_schema(mode="serialization")


EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One event. `docs/live-balance.md` says which members the data of each has.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["snapshot", "change", "balance", "approval", "end"]},
        "id": {"type": "string", "description": "The number of the last ledger entry that the client has then."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {
                    "balance": _schema_of(BalanceState),
                    "entry": _schema_of(EntryState),
                    "approval": {"$ref": "#/components/schemas/ApprovalReply"},
                    "is_complete": {"type": "boolean", "description": "Whether all missed changes follow."},
                    "reason": {"type": "string", "description": "Why the stream ends.", "enum": list(END_REASONS)},
                },
            },
        },
    },
}
"""In the OpenAPI description: each event of a stream, by its fields."""
