"""Errors of billing that end a request.

A new code is a subclass of `AppError` (app/errors.py), a row in docs/errors.md, and a class in the SDK
(sdk/src/ciris_billing/errors.py) if its callers handle it in another way than its status.
"""

from collections.abc import Mapping, Sequence

from app.billing.posting import Charge
from app.billing.schemas import ChargeReply
from app.errors import AppError
from app.ledger.pools import MINOR_PER_CREDIT
from app.ledger.remedies import NO_STORE
from app.refusals.remedies import advice
from app.refusals.schemas import Remedy

PROBABLE_DOUBLE_CHARGE = "Probable-Double-Charge"
"""The header that names the first charge."""
KEPT_OF_FIRST = ("charge_id", "amount_minor", "currency", "created_at")
"""Fields of the first charge in the log of refused requests: none that may contain personal data."""


class InsufficientCredits(AppError):
    """The account cannot pay. The arguments are credits. The answer's figures are hundredths of a credit.

    Their wire type is `InsufficientCreditsReply` in schemas.py.

    `affordable` is the largest amount that the same operation could spend now. None means all of `available`. An
    operation with a fixed price passes 0.
    """

    status, code = 402, "insufficient_credits"

    def __init__(
        self, *, available: int, required: int, affordable: int | None = None, remedies: Sequence[Remedy] = ()
    ) -> None:
        balance_minor, required_minor = available * MINOR_PER_CREDIT, required * MINOR_PER_CREDIT
        super().__init__(
            f"Insufficient credits. Balance: {balance_minor}, Required: {required_minor}",
            headers=NO_STORE,
            figures={
                "balance_minor": balance_minor,
                "required_minor": required_minor,
                "shortfall_minor": required_minor - balance_minor,
                "max_affordable_minor": balance_minor if affordable is None else affordable * MINOR_PER_CREDIT,
                **advice(remedies),
            },
        )
        self.available = available
        self.required = required


class BalanceChanged(Exception):
    """The paid credits differ from those that an admin saw. Nothing changed. The back office shows the new number."""

    def __init__(self, paid: int) -> None:
        super().__init__(paid)
        self.paid = paid


class ProbableDoubleCharge(AppError):
    """A charge with the same purpose exists under another idempotency key, and the API key refuses to charge again.

    The answer has the first charge, in the form of a replay: clients treat both as paid.
    """

    status, code = 409, "probable_double_charge"

    def __init__(self, first: Charge) -> None:
        headers = {
            "X-Existing-Charge-ID": str(first.charge_id),
            PROBABLE_DOUBLE_CHARGE: str(first.charge_id),
            "Cache-Control": "no-store",
        }
        figures = ChargeReply.of(first).model_dump(mode="json")
        super().__init__("Probably a double charge", headers=headers, figures=figures)

    @property
    def kept_figures(self) -> Mapping[str, object]:
        return {name: self.figures[name] for name in KEPT_OF_FIRST}


class ChargeNotFound(AppError):
    """Not cacheable, unlike other 404 answers: the charge may be recorded a moment later."""

    status, code = 404, "charge_not_found"

    def __init__(self) -> None:
        super().__init__("Charge not found", headers={"Cache-Control": "no-store"})
