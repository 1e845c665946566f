"""Errors of usage events."""

from collections.abc import Sequence

from app.errors import AppError
from app.ledger.money import decimal_text, minor_ceil, minor_floor
from app.ledger.remedies import NO_STORE
from app.pricing.compiled import UnknownModel
from app.pricing.engine import UnknownMeter
from app.refusals.remedies import advice
from app.refusals.schemas import Remedy


class EventIdReused(AppError):
    """The event id was used for another usage. This event is not recorded."""

    status, code = 422, "event_id_reused"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"event_id {event_id!r} was used before for other usage or another cost")


class InsufficientMoney(AppError):
    """The account cannot pay. The event may be sent again under the same id. Amounts are nanos of the currency.

    `affordable` is the largest cost that the same operation could have now, debt included. None means `available`.
    """

    status, code = 402, "insufficient_money"

    def __init__(
        self,
        *,
        available: int,
        required: int,
        currency: str,
        affordable: int | None = None,
        debt_limit_reached: bool = False,
        remedies: Sequence[Remedy] = (),
    ) -> None:
        balance, cost = decimal_text(available), decimal_text(required)
        reason = "Debt limit reached" if debt_limit_reached else "Insufficient credits"
        super().__init__(
            f"{reason}. Balance: {balance} {currency}, required: {cost} {currency}",
            headers=NO_STORE,
            figures={
                "balance": balance,
                "required": cost,
                "shortfall": decimal_text(required - available),
                "max_affordable": decimal_text(available if affordable is None else affordable),
                "currency": currency,
                **advice(remedies),
                "details": {"balance": minor_floor(available, currency), "required": minor_ceil(required, currency)},
            },
        )


class NegativeCost(AppError):
    """A negative cost would give money."""

    status, code = 400, "negative_cost"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} must not be negative", figures={"field": field})


class UnpricedModel(AppError):
    status, code = 422, "unknown_model"

    def __init__(self, unknown: UnknownModel) -> None:
        model = "/".join(name for name in (unknown.provider, unknown.model) if name) or "an empty name"
        super().__init__(
            f"metric.model {model[:255]!r} has no price: {unknown.reason.replace('_', ' ')}",
            figures={"field": "metric"},
        )
        self.unknown = unknown


class UnpricedMeter(AppError):
    status, code = 422, "unknown_meter"

    def __init__(self, unknown: UnknownMeter) -> None:
        of = "" if unknown.name is None else f" of {unknown.name[:255]!r}"
        super().__init__(f"metric.type {unknown.meter}{of} has no price", figures={"field": "metric"})


class NoPriceBook(AppError):
    """No price book of the account's currency is in force at the event's time."""

    status, code = 422, "no_price_book"

    def __init__(self, currency: str) -> None:
        super().__init__(f"No price book in {currency} is in force at the event's time, and no cost is stated")


class CostOutOfBounds(AppError):
    """The cost does not fit 64 bits."""

    status, code = 422, "cost_too_large"

    def __init__(self) -> None:
        super().__init__("The quantities of metric are too large: their cost would exceed 64 bits")


class EventNotFound(AppError):
    """Not cacheable: the event may be recorded a moment later."""

    status, code = 404, "event_not_found"

    def __init__(self) -> None:
        super().__init__("Event not found", headers={"Cache-Control": "no-store"})


class UnreadableEvents(AppError):
    """The request as a whole is no CloudEvents."""

    status, code = 400, "bad_request"


class EventsRejected(AppError):
    """Some events of a batch were refused. The others are recorded."""

    status, code = 422, "events_rejected"

    def __init__(self, refused: Sequence[tuple[int, str, AppError]]) -> None:
        place, event_id, first = refused[0]
        events = [
            {"index": index, "id": name, "code": error.code, "message": error.detail} for index, name, error in refused
        ]
        super().__init__(
            f"{len(refused)} events are not recorded; the first is {event_id!r} at {place}: {first.detail}",
            headers=next((error.headers for _, _, error in refused if "Retry-After" in error.headers), None),
            figures={"details": {"events": events}},
        )
        retried = next((error for _, _, error in refused if error.status in RETRIED), None)
        if retried is not None:
            self.status, self.code = retried.status, retried.code  # type: ignore[misc]  # one of several classes' errors


RETRIED = (429, 503)
"""Statuses after which a sender repeats a request. The recorded events of the batch are then repeats."""
