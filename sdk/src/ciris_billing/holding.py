"""Work on a hold: reserve before it, capture in it, release what it did not settle."""

import logging
from collections.abc import Awaitable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from ciris_billing._exchange import Flow
from ciris_billing._methods import Awaiting, Blocking, awaited, blocking
from ciris_billing._operations import Operations
from ciris_billing.errors import BillingError, HoldSettled, Unavailable
from ciris_billing.holds import Hold, HoldOpening, Overage, amount_fields
from ciris_billing.keys import hold_key

log = logging.getLogger("ciris_billing")

T = TypeVar("T")
MOST_REPEATS = 100
"""Holds of the same named work, all but the last of which were returned."""


class HeldWork:
    """The steps before, in and after the block of a hold."""

    def __init__(self, operations: Operations, opening: HoldOpening | Mapping[str, Any]) -> None:
        self._operations = operations
        self._opening = opening.body() if isinstance(opening, HoldOpening) else opening
        self._is_settled = False
        self._capture: dict[str, Any] | None = None
        """A capture that was begun, and not refused."""
        self._gave_up = False
        self._word: str | None = None
        """The outcome of a release that was begun, and not refused."""
        self.hold: Hold
        self.replayed = False

    def enter(self) -> Flow[None]:
        """Open the hold. Raises the errors of `create_hold` with either policy: without an answer, nothing is
        reserved. Raises HoldSettled if its idempotency key names a hold that can no longer be captured."""
        self._keep((yield from self._operations.create_hold(self._opening)))
        self.replayed = self.hold.status == "captured"
        if self.hold.is_settled and not self.replayed:
            raise _settled(self.hold)

    def capture(
        self,
        credits: int | None = None,
        *,
        amount_minor: int | None = None,
        amount: Decimal | str | int | None = None,
        overage: Overage | None = None,
    ) -> Flow[Hold]:
        """Spend an amount of the hold, and return the rest."""
        amount_fields(credits, amount_minor, amount)  # a mistake here is no capture that was begun
        self._capture = {"credits": credits, "amount_minor": amount_minor, "amount": amount, "overage": overage}
        self._gave_up = False
        try:
            return (yield from self._capture_once_more(self._capture))
        except Unavailable:
            self._gave_up = True
            raise
        except BillingError:
            self._capture = None
            raise

    def _capture_once_more(self, capture: dict[str, Any]) -> Flow[Hold]:
        try:
            return (yield from self._change(self._operations.capture_hold(self.hold.hold_id, **capture)))
        finally:
            self._operations.cache.forget(self._opening)

    def release(self, outcome: str | None = None) -> Flow[Hold]:
        """Return all of the hold, with a reason such as `refused`."""
        self._word = outcome
        try:
            hold = yield from self._change(self._operations.release_hold(self.hold.hold_id, outcome))
        except Unavailable:
            raise
        except BillingError:
            self._word = None
            raise
        self._operations.cache.forget(self._opening)
        return hold

    def report(
        self,
        credits: int | None = None,
        *,
        amount_minor: int | None = None,
        amount: Decimal | str | int | None = None,
    ) -> Flow[Hold]:
        """State what the work has cost so far, in all, for `capture_reported`."""
        reported = self._operations.report_hold(
            self.hold.hold_id, credits=credits, amount_minor=amount_minor, amount=amount
        )
        return self._change(reported)

    def extend(self, expires_in_s: int) -> Flow[Hold]:
        """Let the hold expire later, in seconds from now."""
        return self._change(self._operations.extend_hold(self.hold.hold_id, expires_in_s))

    def leave(self, failure: BaseException | None) -> Flow[None]:
        """Release the hold, unless it is settled. A capture that was interrupted is repeated: its work is done. One
        that the service did not answer until the deadline leaves the hold to its expiry."""
        if self._is_settled:
            return
        if self._gave_up:
            self._log("capture_unanswered")
        elif self._capture is not None:
            yield from self._capture_once_more(self._capture)
        else:
            yield from self.release(self._word or _outcome_of(failure))

    def log_unsettled(self, error: Exception) -> None:
        """Log that the block's end did not settle the hold, which is left to its expiry."""
        self._log(error.code if isinstance(error, BillingError) else type(error).__name__)

    def _log(self, reason: str) -> None:
        fields = {"billing_code": reason, "billing_hold_id": self.hold.hold_id}
        log.error("billing hold not settled by its block: %s", reason, extra=fields)

    def _change(self, flow: Flow[Hold]) -> Flow[Hold]:
        try:
            self._keep((yield from flow))
        except HoldSettled:
            self._is_settled = True
            raise
        return self.hold

    def _keep(self, hold: Hold) -> None:
        self.hold = hold
        self._is_settled = self._is_settled or hold.is_settled


class NamedWork(HeldWork):
    """Work that has a name and is paid for once. A repeat of work that failed opens another hold, under a key that is
    derived from the name and the hold before, so that concurrent repeats share a hold."""

    def __init__(self, operations: Operations, name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(operations, {**fields, "idempotency_key": hold_key(name)})
        self._name = name

    def enter(self) -> Flow[None]:
        """Open the hold, or find the one that is open or has paid (`replayed`). Raises the errors of `create_hold`, and
        HoldSettled if the work has failed too often."""
        for _ in range(MOST_REPEATS):
            self._is_settled = False
            self._keep((yield from self._operations.create_hold(self._opening)))
            self.replayed = self.hold.has_paid
            if self.replayed or not self.hold.is_settled:
                return
            self._opening = {**self._opening, "idempotency_key": hold_key(self._name, self.hold.hold_id)}
        raise _settled(self.hold)

    def pay(self, cost: Mapping[str, Any]) -> Flow[Hold]:
        """Capture what the finished work has cost, as an amount of `capture`: of the hold, and beyond it as far as the
        balance suffices. Work that a repeat has paid for costs nothing more. A hold that was returned during the work,
        by a repeat that failed or by its expiry, is opened again."""
        for attempt in range(2):
            if self.replayed:
                break
            try:
                return (yield from self.capture(**cost, overage="charge_what_fits"))
            except HoldSettled as settled:
                if settled.captured:
                    self._keep((yield from self._operations.get_hold(self.hold.hold_id)))
                    break
                if attempt:
                    raise
            yield from self.enter()
        return self.hold


def _settled(hold: Hold) -> HoldSettled:
    captured = hold.captured_minor if hold.captured is None else hold.captured
    return HoldSettled(
        f"The hold of this idempotency_key is {hold.status}: repeat the work with another key",
        hold_status=hold.status,
        captured=None if captured is None else Decimal(captured),
        status=409,
    )


def _outcome_of(failure: BaseException | None) -> str | None:
    if failure is None:
        return None
    return "provider_error" if isinstance(failure, Exception) else "client_abort"


class _OnHold:
    """The hold of a block, as its last answer described it."""

    def __init__(self, work: HeldWork) -> None:
        self._operations = work

    @property
    def hold(self) -> Hold:
        """The hold as of the last answer."""
        return self._operations.hold

    @property
    def hold_id(self) -> str:
        """The id of the hold, for the raw methods."""
        return self._operations.hold.hold_id

    @property
    def replayed(self) -> bool:
        """A hold of the same `idempotency_key` was captured before. The work is paid for: the same capture returns the
        same hold, and another one raises HoldSettled."""
        return self._operations.replayed


class Holding(_OnHold):
    """A hold in the block of a BillingClient. The methods raise the errors of `capture_hold`, `report_hold`,
    `extend_hold` and `release_hold`."""

    def __init__(self, work: HeldWork, client: Blocking[Operations]) -> None:
        super().__init__(work)
        self._client = client

    capture = blocking(HeldWork.capture)
    report = blocking(HeldWork.report)
    extend = blocking(HeldWork.extend)
    release = blocking(HeldWork.release)

    def _run(self, flow: Flow[T]) -> T:
        return self._client._run(flow)


class AsyncHolding(_OnHold):
    """A hold in the block of an AsyncBillingClient. The methods raise the errors of `capture_hold`, `report_hold`,
    `extend_hold` and `release_hold`."""

    def __init__(self, work: HeldWork, client: Awaiting[Operations]) -> None:
        super().__init__(work)
        self._client = client

    capture = awaited(HeldWork.capture)
    report = awaited(HeldWork.report)
    extend = awaited(HeldWork.extend)
    release = awaited(HeldWork.release)

    def _run(self, flow: Flow[T]) -> Awaitable[T]:
        return self._client._run(flow)
