"""One account as plain arithmetic: the oracle of test_machine.py. Credits, unless a name says `_minor`.

Answers: ("done", left...), ("replayed", left then...), ("shortfall", has, needs), ("suspended",), ("key reused",),
or the code of a limit, run or brake that refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.limit_model import LimitModel
from tests.support.run_model import Asked
from tests.support.wallet_model import WalletModel

Answer = tuple[object, ...]


@dataclass
class Tool:
    free: int
    a_day: int
    cap: int
    price: int
    paid: int = 0
    uses: int = 0


@dataclass
class Sale:
    credits: int
    price_minor: int
    refunded_minor: int = 0
    withdrawn_minor: dict[str, int] = field(default_factory=dict)
    taken: int = 0


@dataclass
class Model:
    a_day: int
    daily_free: int
    free: int
    tools: dict[str, Tool]
    wallet: WalletModel
    limits: LimitModel = field(default_factory=LimitModel)
    paid: int = 0
    debt: int = 0
    uses: int = 0
    suspended: bool = False
    used: dict[tuple[str, str], tuple[object, Answer]] = field(default_factory=dict)

    def midnight(self) -> None:
        self.daily_free = self.a_day
        for tool in self.tools.values():
            tool.free = max(tool.free, min(tool.free + tool.a_day, tool.cap))

    def charge(self, amount_minor: int, key: str | None, run: str | None = None) -> Answer:
        return self._once("charge", key, amount_minor, lambda: self._charge((amount_minor + 99) // 100, run))

    @property
    def spendable(self) -> int:
        return self.daily_free + self.wallet.credits + self.free + self.paid

    @property
    def main_pool(self) -> int:
        """Paid credits and live grants."""
        return self.paid + self.wallet.credits

    def _charge(self, cost: int, run: str | None) -> Answer:
        if self.suspended or self.spendable < cost:
            return ("suspended",) if self.suspended else ("shortfall", self.spendable, cost)
        if refusal := self._refusal(Asked("credit", cost, run)):
            return (refusal,)
        from_daily = min(cost, self.daily_free)
        rest = self.wallet.burn(cost - from_daily, money=False)
        from_free = min(rest, self.free)
        self.daily_free, self.free = self.daily_free - from_daily, self.free - from_free
        self.paid, self.uses = self.paid - (rest - from_free), self.uses + cost
        return "done", self.main_pool

    def _refusal(self, asked: Asked) -> str | None:
        """Count a charge, unless a limit, a run or the brake refuses it."""
        refusal = self.limits.admit(asked, self.wallet.now)
        if refusal is None:
            self.limits.spend(asked, self.wallet.now)
        return refusal

    def tool_charge(self, name: str, key: str | None, run: str | None = None) -> Answer:
        return self._once("tool", key, name, lambda: self._tool_charge(name, self.tools[name], run))

    def _tool_charge(self, name: str, tool: Tool, run: str | None) -> Answer:
        source = "free" if tool.free else "paid" if tool.paid else "main_pool"
        if self.suspended or (source == "main_pool" and self.main_pool < tool.price):
            return ("suspended",) if self.suspended else ("shortfall", self.main_pool, tool.price)
        if refusal := self._refusal(Asked("credit", tool.price if source == "main_pool" else 0, run, tool=name)):
            return (refusal,)
        tool.free, tool.paid = tool.free - (source == "free"), tool.paid - (source == "paid")
        self.uses, tool.uses = self.uses + (tool.price if source == "main_pool" else 0), tool.uses + 1
        self.paid -= self.wallet.burn(tool.price, money=False) if source == "main_pool" else 0
        return "done", source, tool.free, tool.paid, self.main_pool // tool.price, tool.uses

    def grant(self, credits: int, kind: str, key: str | None) -> Answer:
        return self._once("grant", key, (credits, kind), lambda: self.give(credits, pays_debt=kind == "purchase"))

    def give(self, credits: int, *, pays_debt: bool) -> Answer:
        repaid = min(credits, self.debt) if pays_debt else 0
        self.paid, self.debt = self.paid + credits - repaid, self.debt - repaid
        return "done", self.main_pool

    def settle(self, sale: Sale) -> None:
        """Money has left the sale, or come back to it: so do the credits, in proportion and in whole ones."""
        gone_minor = min(sale.price_minor, sale.refunded_minor + sum(sale.withdrawn_minor.values()))
        taken, sale.taken = sale.taken, sale.credits * gone_minor // sale.price_minor
        if (more := sale.taken - taken) < 0:
            self.give(-more, pays_debt=True)
        else:
            self.paid, self.debt = max(0, self.paid - more), self.debt + max(0, more - self.paid)

    def _once(self, operation: str, key: str | None, request: object, attempt: Callable[[], Answer]) -> Answer:
        if key is not None and (operation, key) in self.used:
            before, answer = self.used[operation, key]
            return ("replayed", *answer[1:]) if before == request else ("key reused",)
        answer = attempt()
        if key is not None and answer[0] == "done":
            self.used[operation, key] = request, answer
        return answer
