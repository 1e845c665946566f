"""Live balance: the events of an account's stream.

async for event in billing.watch(account_id):
    print(event.balance.balance_minor, event.entry, event.approval)
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from ciris_billing.models import Reply


class Balance(Reply):
    """An account's balance and status. `*_minor` are hundredths of a credit; `balance`, `held` and `debt` are money.

    `entry_no`: the last ledger entry that it includes."""

    account_id: UUID
    entry_no: int
    status: str
    currency: str
    plan_name: str
    balance_minor: int
    paid_credits: int
    free_uses_remaining: int
    daily_free_uses_remaining: int
    daily_free_uses_limit: int
    total_uses: int
    held_minor: int
    balance: Decimal
    held: Decimal
    debt: Decimal


class LedgerEntry(Reply):
    """A ledger entry: `amount_minor` for credits, `amount` for money, negative if it leaves the pool.

    `reference_type` and `reference_id` name its cause, such as a charge and its id."""

    entry_no: int
    kind: str
    pool: str
    grant_id: UUID | None
    unit: str
    amount_minor: int | None
    balance_after_minor: int | None
    amount: Decimal | None
    balance_after: Decimal | None
    reference_type: str
    reference_id: str
    run_id: str | None
    created_at: datetime


class LimitOfApproval(Reply):
    """The limit that refused the request. `amount` is in its unit."""

    scope: str
    scope_value: str | None
    window: str
    unit: str
    amount: Decimal


class Approval(Reply):
    """A refused request that waits for a person, or what the person decided. `amount` and `allowed` are in `unit`.

    `kind`: `limit` (one request above a limit), `resume` (a paused run) or `budget` (a higher budget of a run).
    `status`: `pending`, `approved`, `denied`, `used` or `expired`."""

    approval_id: str
    kind: str
    status: str
    unit: str
    amount: Decimal
    allowed: Decimal | None
    limit: LimitOfApproval | None
    refused_run_id: str | None
    key_id: str | None
    agent_id: str | None
    model: str | None
    tool: str | None
    run_id: str | None
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class BalanceEvent:
    """`snapshot`: a connection begins. `change`: a ledger entry. `balance`: a change without an entry,
    such as of the status. `approval`: an approval that waits or was decided; `balance` is then the last known one."""

    kind: Literal["snapshot", "change", "balance", "approval"]
    balance: Balance
    entry: LedgerEntry | None = None
    is_complete: bool = True
    """False in a snapshot after a position that the account does not have: no missed changes follow."""
    approval: Approval | None = None
