"""Ledger entries: their kinds, their causes, and the lifetime totals in which money counts. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple
from uuid import UUID

from app.auth.caller import Actor


class Kind(StrEnum):
    """The reason of an entry."""

    OPENING_GRANT = "opening_grant"
    DAILY_ALLOWANCE = "daily_allowance"
    DAILY_EXPIRY = "daily_expiry"
    CHARGE = "charge"
    TOOL_CHARGE = "tool_charge"
    PURCHASE = "purchase"
    GRANT = "grant"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    BONUS = "bonus"
    REFUND_REVERSAL = "refund_reversal"
    """Negative: a refund takes credits back. Positive: they return, because the refund failed or was canceled."""
    DISPUTE_REVERSAL = "dispute_reversal"
    DISPUTE_REINSTATEMENT = "dispute_reinstatement"
    DEBT_INCURRED = "debt_incurred"
    DEBT_REPAYMENT = "debt_repayment"
    USAGE = "usage"
    """Money spent by metered usage. Positive: an import of another system returned some of it."""
    GRANT_GIVEN = "grant_given"
    GRANT_EXPIRY = "grant_expiry"
    GRANT_ENDED = "grant_ended"
    """A caller ended the grant before its expiry."""
    CORRECTION = "correction"
    """Usage was priced again: what it costs less was given back, what it costs more was charged (ADR 31)."""
    HOLD = "hold"
    """From a pool into the pool `held`."""
    HOLD_RELEASE = "hold_release"
    """From the pool `held` back into the pool that it came from."""


PAYS_DEBT = frozenset({Kind.PURCHASE, Kind.REFUND_REVERSAL, Kind.DISPUTE_REINSTATEMENT})
"""Purchases, and their return, pay the recorded debt first. Gifts do not."""
DEBT_OF: Mapping[str, str] = MappingProxyType({"paid": "debt", "money": "money_debt"})
"""The pools that can owe, and the pools of their debts."""
TOTALS: Mapping[Kind, str] = MappingProxyType(
    {
        **dict.fromkeys((*PAYS_DEBT, Kind.DISPUTE_REVERSAL), "money_purchased_nanos"),
        **dict.fromkeys(
            (Kind.OPENING_GRANT, Kind.GRANT_GIVEN, Kind.GRANT, Kind.BONUS, Kind.REFUND, Kind.ADJUSTMENT),
            "money_granted_nanos",
        ),
        Kind.USAGE: "money_used_nanos",
        Kind.CORRECTION: "money_used_nanos",
    }
)
"""The lifetime total of money in which an entry counts. Entries of other kinds move what was counted before."""


USAGE_CAUSES = frozenset({"usage_event", "cost_record", "correction"})
"""A debt of money with such a cause was used. Others are purchases that were taken back after they were spent."""
WALLET_ENTRIES = """
    pool IN ('grant', 'money', 'money_debt')
    AND cause_type NOT IN ('charge', 'tool_usage', 'usage_event', 'cost_record', 'hold')
    AND (pool = 'money_debt' OR cause_type <> 'money_credit')"""
"""SQL condition: the entry moves a grant or money, and is neither a use, a usage event, a hold nor a credit of money.

The condition of an index, so a statement names it as it is.
"""


class Cause(NamedTuple):
    """The row that caused a ledger entry."""

    type: Literal[
        "account",
        "charge",
        "tool_usage",
        "credit",
        "tool_grant",
        "grant",
        "hold",
        "usage_event",
        "cost_record",
        "money_credit",
        "correction",
    ]
    id: UUID


class Entry(NamedTuple):
    """`delta` and `balance_after` are in `unit`: credits, or nanos of a currency."""

    entry_no: int
    pool: str
    unit: str
    delta: int
    balance_after: int
    kind: Kind
    cause: Cause
    actor: Actor
    created_at: datetime
    grant_id: UUID | None = None
