"""Errors of refills and saved cards."""

from app.errors import AppError, InvalidRequest


class RefillOutOfBounds(AppError):
    """A setting is outside of the operator's bounds. Z-Billing's clients expect 400."""

    status, code = 400, "refill_out_of_bounds"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", figures={"field": field})


class RefillsStopped(AppError):
    """Refills cannot be switched on while the account is suspended or closed, or a payment of it is disputed."""

    status, code = 409, "refills_stopped"

    def __init__(self, why: str) -> None:
        super().__init__(f"Automatic refills cannot be switched on: {why}", figures={"field": "enabled"})


class ConsentRequired(InvalidRequest):
    """The request does not repeat the text to which the user has to consent."""

    code = "consent_required"

    def __init__(self) -> None:
        super().__init__("consent must repeat the text that GET /v1/credits/auto-refill answers", field="consent")


class CardNotFound(AppError):
    status, code = 404, "card_not_found"

    def __init__(self) -> None:
        super().__init__("Card not found")


class TooManyCards(AppError):
    """The account has as many saved cards, or open pages that save one, as an account may have."""

    status, code = 409, "too_many_cards"

    def __init__(self, limit: int) -> None:
        super().__init__(f"This account has {limit} saved cards or open pages to save one: remove one of them, or wait")
