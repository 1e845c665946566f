"""Operations for holds."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ciris_billing._calls import CallRunner, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.holds import Hold, HoldOpening, Overage, amount_fields
from ciris_billing.models import without_none

PATH = "/v1/billing/holds"


class HoldOperations(CallRunner):
    """Reserve credits or money before work starts, and settle the hold afterwards."""

    def create_hold(self, opening: HoldOpening | Mapping[str, Any]) -> Flow[Hold]:
        """Reserve credits or money, given as an object or as its `body()`. Creates a missing account. A repeat returns
        the same hold, as it is now, with `replayed` set.

        `hold` does this, and all that follows. Raises InsufficientCredits, InsufficientMoney, LimitExceeded,
        RunRefused, AccountSuspended, AccountClosed, IdempotencyKeyReused (same key, other hold), InvalidRequest."""
        body = opening.body() if isinstance(opening, HoldOpening) else opening

        def parse(status: int, fields: Mapping[str, Any]) -> Hold:
            return Hold.model_validate({**fields, "replayed": status == 200})

        return self.run_and_forget(Call("create_hold", "POST", PATH, parse, body))

    def capture_hold(
        self,
        hold_id: str,
        *,
        credits: int | None = None,
        amount_minor: int | None = None,
        amount: Decimal | str | int | None = None,
        overage: Overage | None = None,
    ) -> Flow[Hold]:
        """Spend an amount of a hold, and return the rest. Never refused for want of credit. With the `overage`
        `charge_what_fits`, a larger amount than the held one spends the balance, too, as far as it suffices.

        The same capture again returns the same hold. The call is retried until it is answered or its deadline ends,
        also beyond the `attempts` of `Retry`.

        Raises HoldSettled (the hold has another outcome), AmountAboveHold, NotFound, InvalidRequest."""
        body = {**amount_fields(credits, amount_minor, amount), "overage": overage}
        return self._change("capture", hold_id, body, until_deadline=True)

    def release_hold(self, hold_id: str, outcome: str | None = None) -> Flow[Hold]:
        """Return all of a hold. `outcome` is the reason for people to read, a lower-case word such as `provider_error`,
        `client_abort` or `refused`. Raises HoldSettled, NotFound, InvalidRequest."""
        return self._change("release", hold_id, {"outcome": outcome})

    def extend_hold(self, hold_id: str, expires_in_s: int) -> Flow[Hold]:
        """Let an open hold expire later, in seconds from now. It never expires earlier than before. Raises HoldSettled,
        NotFound, InvalidRequest."""
        return self._change("extend", hold_id, {"expires_in_s": expires_in_s})

    def report_hold(
        self,
        hold_id: str,
        *,
        credits: int | None = None,
        amount_minor: int | None = None,
        amount: Decimal | str | int | None = None,
    ) -> Flow[Hold]:
        """State what the work has cost so far, in all, for a hold with `capture_reported`. The largest report counts,
        up to the held amount. Raises HoldSettled, NotFound, InvalidRequest."""
        return self._change("report", hold_id, amount_fields(credits, amount_minor, amount))

    def get_hold(self, hold_id: str) -> Flow[Hold]:
        """Return a hold. Raises NotFound."""
        return self.exchange.run(Call("get_hold", "GET", f"{PATH}/{quoted(hold_id)}", as_model(Hold)))

    def _change(
        self, action: str, hold_id: str, body: Mapping[str, Any], *, until_deadline: bool = False
    ) -> Flow[Hold]:
        path = f"{PATH}/{quoted(hold_id)}/{action}"
        call = Call(f"{action}_hold", "POST", path, as_model(Hold), without_none(body), until_deadline=until_deadline)
        return self.exchange.run(call)
