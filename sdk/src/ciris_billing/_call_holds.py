"""Holds of LLM calls: opened for an estimate before a call, and settled once after it. Knows nothing of LiteLLM."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from ciris_billing._interactions import Call
from ciris_billing.client import BillingClient
from ciris_billing.errors import BillingError, HoldSettled, Unavailable
from ciris_billing.holds import HoldOpening, OnExpiry, amount_fields
from ciris_billing.keys import llm_key
from ciris_billing.models import MINOR_PER_CREDIT, User, without_none
from ciris_billing.usage import LlmTokens, exact

log = logging.getLogger("ciris_billing")

SMALLEST_MONEY = "0.000000001"
MAX_DECIDED = 10_000
"""Calls of which is known that they are paid for."""
Cost = Mapping[str, Any]
"""The amount of a request about holds: `amount_minor` or `amount`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallHolds:
    """The estimates and costs of LLM calls.

    Calls cost money unless an `amount_minor` or a `credit_price` is given. The estimate is the service's quote for the
    user, the prompt's tokens and the call's `max_tokens`, or `max_tokens` of this object for a call without; or it is a
    configured `amount` of money or `amount_minor` (hundredths of a credit). The cost is the service's quote for the
    tokens that the call has used.

    `credit_price` is the price of one credit in the price book's currency: calls then cost credits, rounded up to whole
    ones. With an `amount_minor` and no `credit_price`, each call costs that amount.

    `on_cut` decides what a stream costs that the caller or a failure cuts off: `release` nothing, `capture_reported`
    what it has delivered, `capture_all` all of the hold. The same holds for the holds of a killed process, which expire
    after `expires_in_s`. Progress is reported at most every `report_every_s`.
    """

    amount: Decimal | str | int | None = None
    amount_minor: int | None = None
    credit_price: Decimal | str | int | None = None
    max_tokens: int = 4096
    on_cut: OnExpiry = "capture_reported"
    expires_in_s: int = 900
    report_every_s: float = 5.0

    def __post_init__(self) -> None:
        if self.amount is not None and (self.amount_minor is not None or self.credit_price is not None):
            raise TypeError("calls cost either money (amount) or credits (amount_minor, credit_price)")
        if self.amount is not None or self.amount_minor is not None:
            amount_fields(None, self.amount_minor, self.amount)
        if self.credit_price is not None and Decimal(exact("credit_price", self.credit_price)) <= 0:
            raise ValueError("credit_price is not positive: pass what one credit costs")

    @property
    def in_money(self) -> bool:
        return self.amount_minor is None and self.credit_price is None

    @property
    def fixed(self) -> Cost | None:
        """The cost of each call, if it does not depend on the tokens."""
        return {"amount_minor": self.amount_minor} if self.amount_minor and self.credit_price is None else None

    def estimate(self) -> Cost | None:
        """The configured estimate."""
        if self.amount is not None:
            return {"amount": self.amount}
        return None if self.amount_minor is None else {"amount_minor": self.amount_minor}

    def cost_of(self, price: Decimal) -> Cost | None:
        """Return the cost of tokens with this price. None if they are free."""
        if price <= 0:
            return None
        if self.credit_price is None:
            return {"amount": f"{price.quantize(Decimal(SMALLEST_MONEY), ROUND_CEILING):f}"}
        minor = price / Decimal(self.credit_price) * MINOR_PER_CREDIT
        return {"amount_minor": int(minor.to_integral_value(ROUND_CEILING))}


def plain(tokens: LlmTokens) -> LlmTokens:
    """Return the tokens of a model by its name alone. LiteLLM's router puts the provider before it."""
    return replace(tokens, model=tokens.model.removeprefix(f"{tokens.provider}/"))


@dataclass(slots=True, eq=False)
class OpenHold:
    """The hold of one try of a call."""

    hold_id: str
    user: User
    call_id: str
    cost: Cost
    """All of it."""
    prompt: LlmTokens | None
    """The tokens of the prompt. None for a fixed cost."""
    is_stream: bool
    interaction_id: str
    opened_at: datetime
    delivered_tokens: int = 0


class HeldCalls:
    """The open holds of calls, and their settlements. Thread-safe. Blocks."""

    def __init__(self, client: BillingClient, terms: CallHolds) -> None:
        self._client = client
        self._terms = terms
        self._open: dict[str, list[OpenHold]] = {}
        """By call. The tries of a call have the same id."""
        self._decided: OrderedDict[str, None] = OrderedDict()
        """Calls that have paid, or that the policy for cut streams has decided. Oldest first."""
        self._lock = threading.Lock()

    def open(self, user: User, call: Call, tokens: LlmTokens, *, is_stream: bool) -> OpenHold | None:
        """Hold the estimate of a try. None if it is free, or if the service is unavailable and the policy `fail_open`.
        Raises the errors of `quote` and `create_hold`."""
        try:
            cost = self._terms.estimate() or self._quoted(user, tokens)
            if cost is None:
                return None
            named = call.names()
            about = without_none({"call_id": call.call_id[:255], "model": tokens.model, "agent_id": named["agent_id"]})
            opening = HoldOpening(
                user=user,
                amount_minor=cost.get("amount_minor"),
                amount=cost.get("amount"),
                expires_in_s=self._terms.expires_in_s,
                on_expiry=self._terms.on_cut,
                run_id=named["run_id"] or named["interaction_id"],
                metadata=about,
            )
            hold = self._client.create_hold(opening)
        except Unavailable as error:
            if self._client.policy == "fail_closed":
                raise
            log.error("billing hold not opened: %s", error.code, extra={"billing_call_id": call.call_id})
            return None
        prompt = None if self._terms.fixed else replace(tokens, output_tokens=0)
        opened = OpenHold(
            hold.hold_id,
            user,
            call.call_id,
            cost,
            prompt,
            is_stream,
            call.interaction_id,
            datetime.now(),  # noqa: DTZ005  # as LiteLLM's times
        )
        with self._lock:
            self._open.setdefault(call.call_id, []).append(opened)
        return opened

    def take(self, call_id: str, before: datetime | None = None) -> OpenHold | None:
        """Remove and return the call's hold, of its last try before a time (as LiteLLM's, without a zone). The
        caller settles it."""
        with self._lock:
            found = self._open.get(call_id, [])
            matching = [hold for hold in found if before is None or hold.opened_at <= before]
            if not matching:
                return None
            found.remove(matching[-1])
            if not found:
                del self._open[call_id]
            return matching[-1]

    def find(self, call_id: str) -> OpenHold | None:
        """Return the hold of the call's last try."""
        with self._lock:
            return self._open.get(call_id, [None])[-1]

    def take_this(self, hold: OpenHold) -> bool:
        """Remove a hold. Return whether it was still open."""
        with self._lock:
            found = self._open.get(hold.call_id, [])
            if hold not in found:
                return False
            found.remove(hold)
            if not found:
                del self._open[hold.call_id]
            return True

    def of_interaction(self, user: User, interaction_id: str) -> list[OpenHold]:
        """Remove and return the holds of an interaction."""
        with self._lock:
            holds = [hold for found in self._open.values() for hold in found]
        about = (user, interaction_id)
        return [hold for hold in holds if (hold.user, hold.interaction_id) == about and self.take_this(hold)]

    def decide(self, call_id: str) -> bool:
        """Note that a call is paid for, or need not be. Return whether this was not known."""
        with self._lock:
            is_new = call_id not in self._decided
            self._decided[call_id] = None
            if len(self._decided) > MAX_DECIDED:
                self._decided.popitem(last=False)
            return is_new

    def release(self, hold: OpenHold, outcome: str) -> None:
        """Return all of a hold. An error is logged: the hold is left to its expiry."""
        try:
            self._client.release_hold(hold.hold_id, outcome)
        except BillingError as error:
            self._not_settled(hold, error)

    def succeeded(self, user: User, call: Call, hold: OpenHold | None) -> None:
        """Capture what a call has cost; without a hold, as far as the balance suffices. An error is logged."""
        if call.from_cache:
            if hold is not None:
                self.release(hold, "cache_hit")
            return
        if not self.decide(call.call_id) and hold is None:
            return
        try:
            cost = self._terms.fixed or self._quoted(user, plain(call.tokens()))
            if cost is None:
                if hold is not None:
                    self._client.release_hold(hold.hold_id)
            elif hold is None or not self._capture(hold, cost):
                self._charge(user, call, cost)
        except BillingError as error:
            fields = {"billing_call_id": call.call_id, "billing_code": error.code}
            log.error("billing cost of a call not captured: %s", error.code, extra=fields)

    def _capture(self, hold: OpenHold, cost: Cost) -> bool:
        """Return whether the hold has paid; it has not if it has expired."""
        try:
            self._client.capture_hold(hold.hold_id, **cost, overage="charge_what_fits")
        except HoldSettled as settled:
            return bool(settled.captured)
        return True

    def _charge(self, user: User, call: Call, cost: Cost) -> None:
        """Charge a call that has no hold, once. The smallest hold with an overage spends the balance."""
        smallest: dict[str, Any] = {"amount": SMALLEST_MONEY} if "amount" in cost else {"amount_minor": 1}
        opening = HoldOpening(user=user, **smallest, idempotency_key=llm_key(call.call_id))
        hold = self._client.create_hold(opening)
        if not hold.has_paid:
            self._client.capture_hold(hold.hold_id, **cost, overage="charge_what_fits")

    def cut(self, hold: OpenHold, outcome: str, used: LlmTokens | None = None) -> None:
        """Settle the hold of a call that ended early, by the policy for cut streams. `used`: the tokens of a failed
        stream, if they are known. A call that has delivered nothing costs nothing."""
        try:
            cost = self._cost_of_cut(hold, used)
            if cost is None:
                self._client.release_hold(hold.hold_id, outcome)
            else:
                self._client.capture_hold(hold.hold_id, **cost, overage="charge_what_fits")
        except BillingError as error:
            self._not_settled(hold, error)

    def _cost_of_cut(self, hold: OpenHold, used: LlmTokens | None) -> Cost | None:
        if not hold.is_stream or self._terms.on_cut == "release":
            return None
        if self._terms.on_cut == "capture_all":
            return hold.cost
        if used is None and not hold.delivered_tokens:
            return None
        return self._terms.fixed or self._quoted(hold.user, plain(used) if used else self._delivered(hold))

    def report(self, hold: OpenHold) -> None:
        """Report the cost of a stream so far. An error is ignored: the next report says more."""
        if self.find(hold.call_id) is not hold:
            return
        try:
            if cost := self._terms.fixed or self._quoted(hold.user, self._delivered(hold)):
                self._client.report_hold(hold.hold_id, **cost)
        except BillingError as error:
            log.debug("billing progress not reported: %s", error.code, extra={"billing_hold_id": hold.hold_id})

    def _delivered(self, hold: OpenHold) -> LlmTokens:
        assert hold.prompt is not None, "a fixed cost needs no tokens"
        return replace(hold.prompt, output_tokens=hold.delivered_tokens)

    def _quoted(self, user: User, tokens: LlmTokens) -> Cost | None:
        return self._terms.cost_of(self._client.quote(tokens, user=user).cost)

    def _not_settled(self, hold: OpenHold, error: BillingError) -> None:
        fields = {"billing_hold_id": hold.hold_id, "billing_call_id": hold.call_id, "billing_code": error.code}
        log.error("billing hold of a call not settled: %s", error.code, extra=fields)
