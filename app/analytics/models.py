"""Tables of the books' sums by day, for reports. All can be recomputed from the books; the verification compares both.

They contain entries with ids below `rollup_state.rolled_up_to`; readers add newer ones (see rollup.py). Nothing here
has a foreign key to the books, because updating a copy must not lock them.
"""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Numeric,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

NEVER, ZERO = text("'-infinity'"), text("0")
NOT_NAMED = "empty: not named"


class RollupState(Base):
    """One row: the marks up to which the sums are complete. A roll-up that moves them locks the row."""

    __tablename__ = "rollup_state"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    rolled_up_to: Mapped[UUID] = mapped_column(comment="what has a lower id is in the sums")
    attributed_up_to: Mapped[UUID] = mapped_column(
        server_default=text("'00000000-0000-0000-0000-000000000000'"),
        comment="what has a lower id is in the attribution; never above rolled_up_to",
    )
    metered_up_to: Mapped[UUID] = mapped_column(
        server_default=text("'00000000-0000-0000-0000-000000000000'"),
        comment="what has a lower id is in the sums of usage events and grants; never above rolled_up_to",
    )


class UsageDay(Base):
    """Uses of a day by all dimensions. Sums have no upper bound, unlike the values that they add up."""

    __tablename__ = "usage_days"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    product_type: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: the charge of an interaction")
    key_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not by an API key")
    agent_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not named")
    currency: Mapped[str] = mapped_column(Text, primary_key=True, comment="of the account")
    uses: Mapped[int] = mapped_column(BigInteger)
    daily_free: Mapped[Decimal] = mapped_column(Numeric)
    free: Mapped[Decimal] = mapped_column(Numeric)
    paid: Mapped[Decimal] = mapped_column(Numeric)
    product_free: Mapped[int] = mapped_column(BigInteger)
    product_paid: Mapped[int] = mapped_column(BigInteger)
    grants: Mapped[Decimal] = mapped_column(
        Numeric, server_default=ZERO, comment="credits paid by grants, up to metered_up_to"
    )


class MeteredDay(Base):
    """Usage events of a day by their main attributes. Amounts are nanos of the currency."""

    __tablename__ = "metered_days"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True, comment="of the events' own time")
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    meter: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True, comment=NOT_NAMED)
    model: Mapped[str] = mapped_column(Text, primary_key=True, comment=NOT_NAMED)
    agent_id: Mapped[str] = mapped_column(Text, primary_key=True, comment=NOT_NAMED)
    key_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not by an API key")
    events: Mapped[int] = mapped_column(BigInteger, comment="recorded; without refused ones")
    refused: Mapped[int] = mapped_column(BigInteger)
    cost_nanos: Mapped[Decimal] = mapped_column(Numeric, comment="charged or owed")
    recorded_nanos: Mapped[Decimal] = mapped_column(Numeric, comment="of accounts that are not billed")
    debt_nanos: Mapped[Decimal] = mapped_column(Numeric, comment="part of the cost that accounts owed")
    provider_cost_nanos: Mapped[Decimal] = mapped_column(Numeric, comment="at list prices, as far as known")
    margin_nanos: Mapped[Decimal] = mapped_column(
        Numeric, comment="charged less the cost at list prices, where it is known"
    )
    without_provider_cost: Mapped[int] = mapped_column(BigInteger, comment="events that the margin leaves out")


class AccountDay(Base):
    """An account's use on a day. Each row points to the account's previous day with use: see ActiveDay."""

    __tablename__ = "account_days"
    __table_args__ = (
        Index(
            "ix_account_days_environment_day",
            "environment",
            "day",
            postgresql_include=["account_id", "uses", "credits"],
        ),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    cohort_week: Mapped[date] = mapped_column(Date, comment="Monday of the week in which the account was made")
    uses: Mapped[int] = mapped_column(BigInteger)
    credits: Mapped[int] = mapped_column(BigInteger, comment="spent from the main pools")
    previous_day: Mapped[date] = mapped_column(
        Date, server_default=NEVER, comment="the last day before on which the account used something"
    )
    events: Mapped[int] = mapped_column(
        BigInteger, server_default=ZERO, comment="recorded usage events, up to metered_up_to"
    )
    cost_nanos: Mapped[Decimal] = mapped_column(
        Numeric, server_default=ZERO, comment="of these events, charged or owed"
    )


class ActiveDay(Base):
    """The number of accounts that were active on a day and, before it, last on `previous_day`.

    An account that is active in a range has exactly one day in it whose previous day lies before the range. So the
    distinct accounts of any range are a sum, unlike counts of active accounts per day.
    """

    __tablename__ = "active_days"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    previous_day: Mapped[date] = mapped_column(Date, primary_key=True)
    accounts: Mapped[int] = mapped_column(BigInteger)


class CohortWeek(Base):
    """The activity in one week of the accounts created in another; weeks are named by their Mondays."""

    __tablename__ = "cohort_weeks"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    cohort_week: Mapped[date] = mapped_column(Date, primary_key=True)
    week: Mapped[date] = mapped_column(Date, primary_key=True)
    active: Mapped[int] = mapped_column(BigInteger)
    credits: Mapped[Decimal] = mapped_column(Numeric)


class LlmInteraction(Base):
    """An interaction, counted once: the greater of its calls' sum and its largest summary."""

    __tablename__ = "llm_interactions"
    __table_args__ = (
        Index(None, "environment", "day", "first_usage_log_id"),
        Index(None, "environment", "cost_cents", "first_usage_log_id"),
        CheckConstraint(
            "num_nulls(models, called_llm_calls, called_prompt_tokens, called_completion_tokens, called_cost_cents, "
            "summary_llm_calls, summary_prompt_tokens, summary_completion_tokens, summary_cost_cents) = 0",
            name="whole",
        ),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    interaction_id: Mapped[str] = mapped_column(Text, primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text, comment="of the account")
    day: Mapped[date] = mapped_column(Date, comment="of its first report")
    model: Mapped[str] = mapped_column(Text, comment="all its models, joined")
    first_usage_log_id: Mapped[UUID]
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    llm_calls: Mapped[Decimal] = mapped_column(Numeric)
    prompt_tokens: Mapped[Decimal] = mapped_column(Numeric)
    completion_tokens: Mapped[Decimal] = mapped_column(Numeric)
    cost_cents: Mapped[Decimal] = mapped_column(Numeric)
    # The parts that later reports are added to. Nullable: a required column cannot be added without downtime.
    models: Mapped[list[str]] = mapped_column(ARRAY(Text), nullable=True, comment="the first 100 by name")
    called_llm_calls: Mapped[Decimal] = mapped_column(Numeric, nullable=True, comment="the calls' sum")
    called_prompt_tokens: Mapped[Decimal] = mapped_column(Numeric, nullable=True)
    called_completion_tokens: Mapped[Decimal] = mapped_column(Numeric, nullable=True)
    called_cost_cents: Mapped[Decimal] = mapped_column(Numeric, nullable=True)
    summary_llm_calls: Mapped[Decimal] = mapped_column(Numeric, nullable=True, comment="the greatest summary's")
    summary_prompt_tokens: Mapped[Decimal] = mapped_column(Numeric, nullable=True)
    summary_completion_tokens: Mapped[Decimal] = mapped_column(Numeric, nullable=True)
    summary_cost_cents: Mapped[Decimal] = mapped_column(Numeric, nullable=True)


class LlmDay(Base):
    """Interactions of a day by model."""

    __tablename__ = "llm_days"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    interactions: Mapped[int] = mapped_column(BigInteger)
    llm_calls: Mapped[Decimal] = mapped_column(Numeric)
    prompt_tokens: Mapped[Decimal] = mapped_column(Numeric)
    completion_tokens: Mapped[Decimal] = mapped_column(Numeric)
    cost_cents: Mapped[Decimal] = mapped_column(Numeric)


def _of_an_interaction(table: str) -> ForeignKeyConstraint:
    """Return a foreign key that follows an interaction's renaming on erasure, by a worker of any version."""
    return ForeignKeyConstraint(
        ["account_id", "interaction_id"],
        ["llm_interactions.account_id", "llm_interactions.interaction_id"],
        name=f"fk_{table}_account_id_llm_interactions",
        onupdate="CASCADE",
    )


class InteractionCalls(Base):
    """The sums of an interaction's single calls, by model (see attribution.py)."""

    __tablename__ = "interaction_calls"
    __table_args__ = (_of_an_interaction("interaction_calls"),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    interaction_id: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    llm_calls: Mapped[Decimal] = mapped_column(Numeric)
    prompt_tokens: Mapped[Decimal] = mapped_column(Numeric)
    completion_tokens: Mapped[Decimal] = mapped_column(Numeric)
    cost_cents: Mapped[Decimal] = mapped_column(Numeric)


class InteractionShare(Base):
    """The part of an interaction's cost and paid credits that belongs to a day, an agent and a model."""

    __tablename__ = "interaction_shares"
    __table_args__ = (_of_an_interaction("interaction_shares"),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    interaction_id: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    agent_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not named")
    model: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not named")
    environment: Mapped[str] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text, comment="of the account")
    interactions: Mapped[int] = mapped_column(BigInteger, comment="1 on the day and agent of its cost, else 0")
    llm_calls: Mapped[Decimal] = mapped_column(Numeric)
    prompt_tokens: Mapped[Decimal] = mapped_column(Numeric)
    completion_tokens: Mapped[Decimal] = mapped_column(Numeric)
    cost_cents: Mapped[Decimal] = mapped_column(Numeric)
    paid: Mapped[Decimal] = mapped_column(Numeric, comment="paid credits, split among the models")


class AttributionDay(Base):
    """The shares of a day by agent and model. An interaction with several models counts once for each."""

    __tablename__ = "attribution_days"

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    agent_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not named")
    model: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: not named")
    interactions: Mapped[int] = mapped_column(BigInteger)
    llm_calls: Mapped[Decimal] = mapped_column(Numeric)
    prompt_tokens: Mapped[Decimal] = mapped_column(Numeric)
    completion_tokens: Mapped[Decimal] = mapped_column(Numeric)
    cost_cents: Mapped[Decimal] = mapped_column(Numeric)
    paid: Mapped[Decimal] = mapped_column(Numeric)
