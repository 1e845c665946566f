"""Wire format of limits in explanations. Amounts are texts, as in refusals."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from app.db import opaque_ids
from app.http.schemas import Reply
from app.ledger.limits import PREFIX, Action, Owner, Scope, Window
from app.ledger.units import amount_text, unit_text


class EvaluatedLimitReply(Reply):
    """A limit that was about the request and allowed it, as it was then."""

    id: str
    scope: Scope
    scope_value: str | None
    window: Window
    unit: str = Field(description="`credits`, `uses`, or the currency of money.")
    action: Action
    owner: Owner
    amount: str
    spent: str = Field(description="In its window, with this request.")
    headroom: str = Field(description="The rest that the window left after this request.")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        unit = row["unit"]
        return cls(
            id=opaque_ids.encode(PREFIX, row["account_id"], row["limit_id"]),
            scope=row["scope"],
            scope_value=row["scope_value"] or None,
            window=row["window"],
            unit=unit_text(unit),
            action=row["action"],
            owner=row["owner"],
            amount=amount_text(unit, row["amount"]),
            spent=amount_text(unit, row["counted"]),
            headroom=amount_text(unit, max(0, row["amount"] - row["counted"])),
        )
