"""Operations for runs."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ciris_billing._calls import CallRunner, identity, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.errors import BillingError
from ciris_billing.models import User, without_none
from ciris_billing.runs import Run, RunOpening, RunPage, RunReceipt, RunStatus, budget_fields
from ciris_billing.usage import payer

PATH = "/v1/billing/runs"
log = logging.getLogger("ciris_billing")


class RunOperations(CallRunner):
    """Register an agent's runs with budgets, change them, and read what they spent."""

    def create_run(self, opening: RunOpening | Mapping[str, Any]) -> Flow[Run]:
        """Register a run, given as an object or as its `body()`. Creates a missing account. A repeat returns the run as
        it is now.

        Raises RunRefused (a run above it is paused or closed), AccountSuspended, AccountClosed, InvalidRequest (the id
        names another run; the parent is unknown or too deep)."""
        body = opening.body() if isinstance(opening, RunOpening) else opening
        return self.exchange.run(Call("create_run", "POST", PATH, as_model(Run), body))

    def change_run(
        self,
        run_id: str,
        user: User | None = None,
        *,
        user_id: str | None = None,
        credits: int | None = None,
        amount_minor: int | None = None,
        amount: Decimal | str | int | None = None,
        status: RunStatus | None = None,
    ) -> Flow[Run]:
        """Lower the budget of a run, pause it (`paused`) or close it (`closed`). Work in it, and below it, is refused
        then; open holds and cost records are settled.

        Raises PermissionDenied for a higher budget and the end of a pause, which need an admin, NotFound,
        InvalidRequest (the run is closed; the budget has another unit)."""
        budget = budget_fields(credits, amount_minor, amount)
        body = {**payer(user, user_id), **without_none({"budget": budget, "status": status})}
        return self.exchange.run(Call("change_run", "PATCH", f"{PATH}/{quoted(run_id)}", as_model(Run), body))

    def get_run(self, run_id: str, user: User | None = None, *, user_id: str | None = None) -> Flow[RunReceipt]:
        """Return the receipt of a run: its calls and its spending, and the runs below it as a tree. Raises NotFound."""
        query = identity(payer(user, user_id))
        return self.exchange.run(Call("get_run", "GET", f"{PATH}/{quoted(run_id)}", as_model(RunReceipt), query=query))

    def run_page(
        self, user: User | None = None, *, user_id: str | None = None, before: str | None = None, limit: int = 50
    ) -> Flow[RunPage]:
        """Return a page of the user's runs, newest first. `before` is the last `run_id` of the page before."""
        query = {**identity(payer(user, user_id)), "limit": limit, **({} if before is None else {"before": before})}
        return self.exchange.run(Call("run_page", "GET", PATH, as_model(RunPage), query=query))


class RunBlock:
    """The steps before and after the block of a run."""

    def __init__(self, operations: RunOperations, opening: RunOpening) -> None:
        self._operations = operations
        self._opening = opening

    def enter(self) -> Flow[Run]:
        """Register the run."""
        return self._operations.create_run(self._opening)

    def leave(self, _: BaseException | None) -> Flow[None]:
        """Close the run, however its block ended."""
        opening = self._opening
        yield from self._operations.change_run(opening.run_id, opening.user, user_id=opening.user_id, status="closed")

    def log_unsettled(self, error: Exception) -> None:
        """Log that the block's end did not close the run, which stays open."""
        code = error.code if isinstance(error, BillingError) else type(error).__name__
        log.error("billing run not closed by its block: %s", code, extra={"billing_code": code})
