"""An account's grants and money as plain arithmetic: the wallet's part of the oracle of test_machine.py.

Amounts are credits, or nanos of money.
"""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class ModelLot:
    money: bool
    remaining: int
    priority: int
    expires_at: datetime | None
    category: str
    number: int
    """The order in which grants were given."""
    ended: bool = False


@dataclass
class WalletModel:
    now: datetime
    lots: list[ModelLot] = field(default_factory=list)
    money: int = 0
    debt: int = 0
    purchased: int = 0
    granted: int = 0
    used: int = 0

    def live(self, *, money: bool) -> list[ModelLot]:
        """The lots that can pay now, in burn order."""
        live = [
            lot
            for lot in self.lots
            if lot.money == money and lot.remaining and not (lot.expires_at and lot.expires_at <= self.now)
        ]
        far = datetime.max.replace(tzinfo=self.now.tzinfo)
        return sorted(
            live, key=lambda lot: (lot.priority, lot.expires_at or far, lot.category != "promotional", lot.number)
        )

    @property
    def credits(self) -> int:
        return sum(lot.remaining for lot in self.live(money=False))

    @property
    def spendable_money(self) -> int:
        return self.money + sum(lot.remaining for lot in self.live(money=True))

    def burn(self, amount: int, *, money: bool) -> int:
        """Spend from lots. Return the rest that they do not cover."""
        for lot in self.live(money=money):
            taken = min(lot.remaining, amount)
            lot.remaining, amount = lot.remaining - taken, amount - taken
        return amount

    def give(self, lot: ModelLot) -> None:
        self.lots.append(lot)
        if lot.money and lot.category == "purchased":
            self.purchased += lot.remaining
        elif lot.money:
            self.granted += lot.remaining

    def end(self, lot: ModelLot) -> None:
        lot.remaining, lot.ended = 0, True

    def add_money(self, nanos: int, *, purchase: bool) -> None:
        repaid = min(nanos, self.debt) if purchase else 0
        self.money, self.debt = self.money + nanos - repaid, self.debt - repaid
        if purchase:
            self.purchased += nanos
        else:
            self.granted += nanos

    def take_back(self, nanos: int) -> None:
        taken = min(nanos, self.money)
        self.money, self.debt, self.purchased = self.money - taken, self.debt + nanos - taken, self.purchased - nanos

    def use(self, nanos: int, debt_limit: int | None) -> str:
        """Spend money on usage. The part that the money does not cover becomes debt, up to a limit; None: refuse it.

        Spends nothing unless the answer is "charged" or "debt".
        """
        owed = max(0, nanos - self.spendable_money)
        if owed and debt_limit is None:
            return "refused"
        if owed and debt_limit is not None and self.debt + owed > debt_limit:
            return "debt limit"
        self.used += nanos
        self.money -= self.burn(nanos - owed, money=True)
        self.debt += owed
        return "debt" if owed else "charged"
