"""Status of an account in a check of credits. Pure."""

from dataclasses import dataclass
from typing import Literal, get_args

from app.packs import Pack

Result = Literal["credit", "exhausted", "limited", "inactive"]
"""The result of a check, in metrics."""
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, slots=True)
class CreditStatus:
    """The state of an account in a check. Amounts are credits."""

    daily_free: int
    free: int
    paid: int
    daily_free_limit: int
    total_uses: int
    plan_name: str
    status: str
    grants: int
    """Grants that have not expired."""
    pack: Pack | None
    """The pack of a purchase that names none. None: no default pack has the account's currency."""
    refusal: str | None = None
    """The reason that a limit leaves no room for one credit."""

    @property
    def spendable(self) -> int:
        """All credits that a charge could spend now."""
        return self.daily_free + self.grants + self.free + self.paid

    @property
    def result(self) -> Result:
        if self.status != "active":
            return "inactive"
        if self.spendable == 0:
            return "exhausted"
        return "credit" if self.refusal is None else "limited"
