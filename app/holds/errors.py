"""Errors of holds."""

from app.errors import AppError


class HoldNotFound(AppError):
    """Not cacheable: an unknown id may be one of another environment."""

    status, code = 404, "hold_not_found"

    def __init__(self) -> None:
        super().__init__("Hold not found", headers={"Cache-Control": "no-store"})


class HoldSettled(AppError):
    """The hold has another outcome already: the first one counts. Nothing changed."""

    status, code = 409, "hold_settled"

    def __init__(self, status: str, captured: str) -> None:
        super().__init__(f"The hold is {status} already", figures={"details": {"status": status, "captured": captured}})


class AboveHold(AppError):
    """The amount is larger than the hold, and the caller did not ask to charge what fits. Nothing changed."""

    status, code = 422, "amount_above_hold"

    def __init__(self, field: str, held: str) -> None:
        super().__init__(f"{field} is above the held amount, {held}", figures={"field": field})


class WrongUnit(AppError):
    """A hold of credits has amounts in `amount_minor`, a hold of money in `amount`."""

    status, code = 422, "wrong_unit"

    def __init__(self, field: str, unit: str) -> None:
        super().__init__(f"{field}: the hold is in {unit}", figures={"field": field})
