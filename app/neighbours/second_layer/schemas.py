"""Wire format of SecondLayer's balance and history: numbers in dollars, in both shapes that its pages read.

The pages call `.toFixed()` on the numbers, so none is null. The texts beside them are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, Field

from app.accounts.schemas import UserFields
from app.configuration.sections import DisplayRate, DisplayRates
from app.currencies import NANO_DIGITS
from app.http.schemas import Key255, Reply, Timestamp
from app.ledger.errors import CurrencyMismatch
from app.ledger.limits import Window
from app.ledger.money import decimal_text
from app.metering.usage_schemas import Balance
from app.neighbours.movements import Described
from app.neighbours.second_layer.limits import OwnLimits

DOLLAR, HRYVNIA = "USD", "UAH"
MAX_USD = 999_999_999
TYPES = {
    "usage": "charge",
    "purchase": "topup",
    "dispute_reinstatement": "topup",
    "correction": "refund",
    "dispute_reversal": "refund",
    "refund": "refund",
    "refund_reversal": "refund",
    "adjustment": "adjustment",
    "bonus": "admin_credit",
    "grant": "admin_credit",
    "grant_given": "admin_credit",
    "opening_grant": "admin_credit",
    "grant_ended": "admin_debit",
    "grant_expiry": "admin_debit",
}
"""By reason of a movement."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """Shows the nanos of an account in dollars and hryvnias."""

    rate: DisplayRate | None

    @classmethod
    def of(cls, currency: str, rates: DisplayRates) -> Self:
        """Raises CurrencyMismatch for an account that is not in dollars: its amounts would be wrong as dollars."""
        if currency != DOLLAR:
            raise CurrencyMismatch(DOLLAR, currency)
        return cls(rates.find(DOLLAR, HRYVNIA))

    def usd(self, nanos: int) -> float:
        return float(Decimal(nanos).scaleb(-NANO_DIGITS))

    def uah(self, nanos: int) -> float:
        """Return hryvnias with two decimals; 0 without a rate."""
        if self.rate is None:
            return 0.0
        return float((Decimal(nanos).scaleb(-NANO_DIGITS) * Decimal(self.rate.rate)).quantize(Decimal("0.01")))


class UahRate(Reply):
    """The rate behind `balance_uah`, for display only."""

    rate: str
    as_of: str
    source: str


class LimitsReply(Reply):
    daily_usd: float
    monthly_usd: float


class SpendingReply(Reply):
    today_usd: float
    month_usd: float


class NestedBalance(Reply):
    balance_usd: float
    balance_uah: float
    total_spent_usd: float
    total_requests: int
    limits: LimitsReply
    usage: SpendingReply
    last_request_at: Timestamp | None


class BillingBalanceReply(Reply):
    """The balance in both shapes: nested in `billing`, and flat. Days and months begin in the operator's time zone."""

    success: bool = True
    billing: NestedBalance
    balance_usd: float
    balance: Balance
    balance_uah: float = Field(description="By `uah_rate`; 0 without one.")
    uah_rate: UahRate | None
    total_spent_usd: float
    total_spent: Balance
    total_requests: int
    daily_limit_usd: float = Field(description="0: none, or nothing may be spent.")
    monthly_limit_usd: float
    today_spending_usd: float
    monthly_spending_usd: float
    today_spent_usd: float
    month_spent_usd: float
    last_request_at: Timestamp | None
    is_active: bool
    pricing_tier: str
    user_id: str
    low_balance_threshold_usd: float = Field(description="0: the user is not warned.")

    @classmethod
    def of(
        cls,
        user_id: str,
        state: Mapping[str, Any],
        spendable_nanos: int,
        sums: Mapping[str, Any],
        limits: OwnLimits,
        shown: Conversion,
    ) -> Self:
        balance, spent = shown.usd(spendable_nanos), shown.usd(state["money_used_nanos"])
        uah = shown.uah(spendable_nanos)
        today, month = shown.usd(sums["today_nanos"]), shown.usd(sums["month_nanos"])
        rate = shown.rate
        daily, monthly = (0.0 if of is None else shown.usd(of.amount) for of in (limits.day, limits.month))
        return cls(
            billing=NestedBalance(
                balance_usd=balance,
                balance_uah=uah,
                total_spent_usd=spent,
                total_requests=sums["events"],
                limits=LimitsReply(daily_usd=daily, monthly_usd=monthly),
                usage=SpendingReply(today_usd=today, month_usd=month),
                last_request_at=sums["last_at"],
            ),
            balance_usd=balance,
            balance=decimal_text(spendable_nanos),
            balance_uah=uah,
            uah_rate=None if rate is None else UahRate(rate=rate.rate, as_of=rate.as_of, source=rate.source),
            total_spent_usd=spent,
            total_spent=decimal_text(state["money_used_nanos"]),
            total_requests=sums["events"],
            daily_limit_usd=daily,
            monthly_limit_usd=monthly,
            today_spending_usd=today,
            monthly_spending_usd=month,
            today_spent_usd=today,
            month_spent_usd=month,
            last_request_at=sums["last_at"],
            is_active=state["status"] == "active",
            pricing_tier=state["plan_name"],
            user_id=user_id,
            low_balance_threshold_usd=0,
        )


class BillingRow(Reply):
    """A movement of money. Amounts are positive: the type says in which direction it went."""

    id: str
    user_id: str
    type: str
    amount_usd: float
    amount: Balance
    amount_uah: float
    balance_before_usd: float
    balance_after_usd: float
    balance_after: Balance
    request_id: str | None
    payment_provider: str | None
    payment_id: str | None
    description: str
    metadata: dict[str, Any]
    created_at: Timestamp

    @classmethod
    def of(cls, user_id: str, described: Described, shown: Conversion) -> Self:
        movement = described.movement
        amount = abs(movement.amount_nanos)
        metadata = (described.event or {}).get("metadata")
        return cls(
            id=described.id,
            user_id=user_id,
            type=TYPES.get(movement.reason, "adjustment"),
            amount_usd=shown.usd(amount),
            amount=decimal_text(amount),
            amount_uah=shown.uah(amount),
            balance_before_usd=shown.usd(movement.balance_before_nanos),
            balance_after_usd=shown.usd(movement.balance_after_nanos),
            balance_after=decimal_text(movement.balance_after_nanos),
            request_id=described.request_id,
            payment_provider=described.payment_provider,
            payment_id=described.payment_id,
            description=described.description,
            metadata=metadata if isinstance(metadata, dict) else {},
            created_at=described.at,
        )


Dollars = Annotated[Decimal, Field(ge=0, le=MAX_USD, decimal_places=NANO_DIGITS)]


def nanos_of(usd: Decimal) -> int:
    return int(usd.scaleb(NANO_DIGITS))


class SettingsBody(BaseModel):
    """Limits to set. An absent one stays."""

    daily_limit_usd: Dollars | None = Field(
        default=None, validation_alias=AliasChoices("daily_limit_usd", "dailyLimitUsd")
    )
    monthly_limit_usd: Dollars | None = Field(
        default=None, validation_alias=AliasChoices("monthly_limit_usd", "monthlyLimitUsd")
    )

    def amounts(self) -> dict[Window, int]:
        """Return the given limits in nanos, by window."""
        given: tuple[tuple[Window, Decimal | None], ...] = (
            ("day", self.daily_limit_usd),
            ("month", self.monthly_limit_usd),
        )
        return {window: nanos_of(usd) for window, usd in given if usd is not None}


class SettingsReply(Reply):
    success: bool = True
    message: str


class CheckBody(UserFields):
    """Work before it starts. With a user's token, the user is the token's."""

    estimated_cost_usd: Dollars
    tool: Key255 | None = Field(default=None, description="For limits of a tool.")


class CheckReply(Reply):
    """The money and the limits suffice. Nothing is held."""

    success: bool = True
    allowed: bool = True
    balance_usd: float
    required_usd: float


class Pagination(Reply):
    limit: int
    offset: int
    count: int = Field(description="Transactions on this page.")


class BillingHistoryReply(Reply):
    """Newest first."""

    success: bool = True
    transactions: list[BillingRow]
    pagination: Pagination


def reasons_of(row_type: str) -> Sequence[str]:
    """Return the reasons of movements of a type. An unknown type has none."""
    return [reason for reason, its_type in TYPES.items() if its_type == row_type]
