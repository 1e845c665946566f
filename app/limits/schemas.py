"""Wire format of limits. Amounts are texts: whole credits and uses, and exact money in the currency's major unit."""

import re
from datetime import datetime, tzinfo
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from app.accounts.schemas import UserFields
from app.errors import InvalidRequest
from app.http.schemas import MAX_INT64, Key255, Reply, Timestamp
from app.ledger.limits import Action, Limit, Owner, Scope, Window, limit_figures, window_end
from app.ledger.money import nanos_of_text
from app.limits.service import UNITS, NewLimit

KEY_ID = re.compile(r"[0-9a-z]{16}", re.ASCII)
WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
AmountText = Annotated[str, StringConstraints(max_length=40)]
AMOUNT = (
    "Credits and uses: a whole number. Money: an exact decimal in the major unit of the account's currency, as text: "
    '"2.50". 0 refuses everything.'
)


class ScopeBody(BaseModel):
    type: Scope
    value: Key255 | None = Field(
        default=None, description="The id of the API key, or the name of the agent, model or tool. Absent: the account."
    )

    def names(self) -> str:
        """Return the value, empty for the account. Raise InvalidRequest unless the type has one."""
        if (self.type == "account") != (self.value is None):
            problem = "must be absent" if self.type == "account" else "is required"
            raise InvalidRequest(f"scope.value {problem} with the type {self.type}", field="scope")
        if self.type == "key" and KEY_ID.fullmatch(self.value or "") is None:
            raise InvalidRequest("scope.value must be an API key's id: 16 small letters and digits", field="scope")
        return self.value or ""


class LimitFields(BaseModel):
    scope: ScopeBody = Field(default=ScopeBody(type="account"), description="The part of the account that it limits.")
    window: Window = Field(description="Hours, days and months begin in the operator's time zone.")
    unit: Literal["credits", "money", "uses"] = Field(description="`uses` counts requests at any cost.")
    amount: AmountText | Annotated[int, Field(strict=True, ge=0, le=MAX_INT64)] = Field(
        union_mode="left_to_right", description=AMOUNT, examples=["100"]
    )
    action: Action = Field(default="refuse", description="`notify` counts, and refuses nothing.")

    def limit(self) -> NewLimit:
        """Return the limit. Raise InvalidRequest, which names the field."""
        name = self.scope.names()
        if self.scope.type == "model" and self.unit == "credits":
            raise InvalidRequest("unit must be money or uses for a model: no charge of credits names one", field="unit")
        return NewLimit(self.scope.type, name, self.window, UNITS[self.unit], self._amount(), self.action)

    def _amount(self) -> int:
        text = str(self.amount)
        if self.unit == "money":
            try:
                nanos = nanos_of_text(text)
            except ValueError as error:
                raise InvalidRequest(f"amount {error}", field="amount") from None
            if nanos < 0:
                raise InvalidRequest("amount must not be negative", field="amount")
            return nanos
        if WHOLE.fullmatch(text) is None or int(text) > MAX_INT64:
            raise InvalidRequest("amount must be a whole number from 0 to 2^63 - 1", field="amount")
        return int(text)


class LimitBody(UserFields, LimitFields):
    """A user's limit. A repeat changes nothing; another amount changes the limit, which keeps its counter."""


class LimitReply(Reply):
    """A limit with the counter of its current window."""

    id: str
    scope: Scope
    scope_value: str | None
    window: Window
    unit: str = Field(description="`credits`, `uses`, or the currency of money.")
    amount: str = Field(description="The most that a window may count.")
    spent: str = Field(description="Counted in the current window: spending, open holds and open cost records.")
    resets_at: Timestamp | None = Field(description="When the next window begins. null: never.")
    action: Action
    owner: Owner = Field(description="It is the user's or the operator's. Both apply.")
    crossed_at: Timestamp | None = Field(description="When the current window first counted more than the amount.")
    created_at: Timestamp

    @classmethod
    def of(cls, limit: Limit, now: datetime, zone: tzinfo) -> Self:
        figures: dict[str, Any] = limit_figures(limit, window_end(limit.window, now, zone))
        more = {name: getattr(limit, name) for name in ("action", "owner", "crossed_at", "created_at")}
        return cls(**figures, **more)


class LimitsReply(Reply):
    """Shorter windows first: in this order they refuse."""

    limits: list[LimitReply]
