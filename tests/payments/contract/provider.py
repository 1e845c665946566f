"""The contract of a payment provider: the methods that the cases need of its local stand-in.

To test another provider, write a class with these methods and add it to PROVIDERS in conftest.py.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

Goods = Literal["credits", "money", "refill", "subscription"]
Event = Any
"""A message of the provider, as `Provider.webhook` sends it."""


class Provider(Protocol):
    """A provider, with its buyers and their banks. A payment is named by the provider's id."""

    sells: Sequence[Goods]
    """Goods that the service sells by it."""
    calls: tuple[type, str]
    """The class and the method of the service's gateway through which every call to the provider goes."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings of a service that uses it."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the stand-in for as long as the block runs."""

    async def price_of(self, plan: str, minor: int) -> str:
        """Return the id of a monthly price, in dollars."""

    async def pay(self, goods: Goods, opened: str, *, later: bool = False) -> str:
        """Pay what was opened, as its buyer. Return the payment's id. `later`: its money is on its way."""

    async def arrive(self, payment: str, *, minor: int | None = None, currency: str | None = None) -> None:
        """Let the money of a payment arrive that is on its way; or another amount, or another currency."""

    async def save_card(self, page: str) -> None:
        """Save a card on a page, as its owner."""

    async def refund(self, payment: str, minor: int) -> None:
        """Refund a part of a payment, as an operator on the provider's own pages."""

    async def dispute(self, payment: str, minor: int) -> str:
        """Take money back, as the buyer's bank. Return the id of the dispute."""

    async def decide(self, dispute: str, outcome: Literal["won", "lost"]) -> None:
        """Decide a dispute. "won": the money returns to the operator."""

    async def new_events(self) -> list[Event]:
        """Return the events since the last call, oldest first."""

    def webhook(self, event: Event) -> tuple[bytes, str]:
        """Return the body and the signature of a message."""

    async def payments(self) -> list[str]:
        """Return the payments that have succeeded since the last call of `new_events`."""
