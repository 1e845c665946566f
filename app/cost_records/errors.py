"""Errors of cost records."""

from app.errors import AppError
from app.ledger.money import decimal_text


class CostRecordNotFound(AppError):
    """Not cacheable: an unknown id may be one of another environment."""

    status, code = 404, "cost_record_not_found"

    def __init__(self) -> None:
        super().__init__("Cost record not found", headers={"Cache-Control": "no-store"})


class RequestIdReused(AppError):
    """The request id was used for another record. Nothing is recorded."""

    status, code = 422, "request_id_reused"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id!r} was used before for another cost record", figures={"field": "request_id"}
        )


class ItemIdReused(AppError):
    """The item id was used for another item of the record. Nothing is added."""

    status, code = 422, "item_id_reused"

    def __init__(self, item_id: str) -> None:
        super().__init__(f"item_id {item_id!r} was used before for another item", figures={"field": "item_id"})


class TooManyItems(AppError):
    status, code = 422, "too_many_items"

    def __init__(self, most: int) -> None:
        super().__init__(f"A cost record has at most {most:,} items")


class CostRecordSettled(AppError):
    """The record has another outcome already: the first one counts. Nothing changed."""

    status, code = 409, "cost_record_settled"

    def __init__(self, status: str, cost_nanos: int, charged_nanos: int) -> None:
        super().__init__(
            f"The cost record is {status} already",
            figures={
                "details": {
                    "status": status,
                    "cost": decimal_text(cost_nanos),
                    "charged": decimal_text(charged_nanos),
                }
            },
        )
