"""The wire format of the tools. `*_minor` amounts are hundredths of a credit."""

from typing import Self
from uuid import UUID

from pydantic import Field

from app.accounts.schemas import IdentityFields
from app.http.schemas import Key255, Label, Reply, RunId
from app.ledger.pools import MINOR_PER_CREDIT
from app.tools.service import ToolBalance, ToolUse


class ToolChargeBody(IdentityFields):
    product_type: Key255 = Field(examples=["web_search"])
    idempotency_key: Key255 | None = None
    request_id: Label | None = None
    run_id: RunId | None = None


class ToolChargeReply(Reply):
    success: bool
    has_credit: bool = Field(description="Always true here: the use is paid for. A refusal answers 402.")
    used_free: bool
    used_paid: bool
    used_main_pool: bool
    cost_minor: int = Field(description="0 for a free use, else the product's price.")
    free_remaining: int
    paid_credits: int
    main_pool_credits: int = Field(description="Uses that the main pool would pay.")
    total_uses: int
    usage_log_id: UUID

    @classmethod
    def of(cls, use: ToolUse) -> Self:
        return cls(
            success=True,
            has_credit=True,
            used_free=use.source == "free",
            used_paid=use.source == "paid",
            used_main_pool=use.source == "main_pool",
            cost_minor=use.cost_minor,
            free_remaining=use.free,
            paid_credits=use.paid,
            main_pool_credits=use.main_pool,
            total_uses=use.total_uses,
            usage_log_id=use.usage_log_id,
        )


class ToolBalanceReply(Reply):
    product_type: str
    free_remaining: int
    paid_credits: int
    main_pool_credits: int = Field(description="Uses that the main pool would pay.")
    total_available: int
    price_minor: int
    total_uses: int

    @classmethod
    def of(cls, balance: ToolBalance) -> Self:
        return cls(
            product_type=balance.product_type,
            free_remaining=balance.free,
            paid_credits=balance.paid,
            main_pool_credits=balance.main_pool,
            total_available=balance.total,
            price_minor=balance.price_credits * MINOR_PER_CREDIT,
            total_uses=balance.total_uses,
        )


class ToolBalancesReply(Reply):
    balances: list[ToolBalanceReply]


class ToolCheckReply(Reply):
    product_type: str
    has_credit: bool
    free_remaining: int
    paid_credits: int
    main_pool_credits: int = Field(description="Uses that the main pool would pay.")
    total_available: int

    @classmethod
    def of(cls, balance: ToolBalance) -> Self:
        return cls(
            product_type=balance.product_type,
            has_credit=balance.has_credit,
            free_remaining=balance.free,
            paid_credits=balance.paid,
            main_pool_credits=balance.main_pool,
            total_available=balance.total,
        )
