"""Wire format of refusals: the members that every 402 has, and the remedies that a program can follow."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from app.http.schemas import CodedError, ErrorReply, Reply, Timestamp
from app.ledger.limits import Scope, Window
from app.ledger.runs import PauseReason, RunStatus

PURCHASES = "/v1/billing/purchases"


class SmallerAmount(Reply):
    """Send the request again with this amount: the largest one that would be paid now."""

    type: Literal["smaller_amount"] = "smaller_amount"
    amount_minor: int | None = Field(description="Of credits, in hundredths. null: the amount is money.")
    amount: str | None = Field(description="Of money, exact, in the currency's major unit. null: it is credits.")
    currency: str | None = Field(description="Of `amount`.")


class CheaperModel(Reply):
    """Use this model of the same provider: the same tokens would cost `cost`, which would be paid now."""

    type: Literal["cheaper_model"] = "cheaper_model"
    provider: str = Field(description="As the request named it.")
    model: str
    cost: str = Field(examples=["0.000400"], description="Exact, in the currency's major unit.")
    currency: str
    price_version: int = Field(description="The price book of the cost.")


class Wait(Reply):
    """Send the same request again at `until`: then it succeeds, unless something else spends first."""

    type: Literal["wait"] = "wait"
    until: Timestamp
    reason: Literal["daily_free_uses", "limit"] = Field(
        description="Free uses renew at `until`, or the window of a limit ends."
    )


class RequestApproval(Reply):
    """A person was asked to allow the request. Once the approval is approved, the same request succeeds."""

    type: Literal["request_approval"] = "request_approval"
    approval_id: str
    until: Timestamp = Field(description="When the approval lapses.")


class Purchase(Reply):
    """Buy `count` of this pack, then send the same request again. A person pays: pass the offer on to the user."""

    type: Literal["purchase"] = "purchase"
    pack: str = Field(description="`pack` of the purchase.")
    count: int = Field(description="Purchases of the pack that cover the shortfall and the account's debt.")
    credits: int = Field(description="Of one pack.")
    price_minor: int = Field(description="Of one pack, in minor units of the currency (500 = $5.00).")
    currency: str
    currency_digits: int = Field(description="Decimals of the price: 500 with 2 digits is 5.00.")
    method: Literal["POST"] = "POST"
    path: str = Field(default=PURCHASES, description="Where to buy, on this service.")


Remedy: TypeAlias = Annotated[
    SmallerAmount | CheaperModel | Wait | RequestApproval | Purchase, Field(discriminator="type")
]


class RefusalReply(ErrorReply):
    """402: the account cannot pay. Nothing was spent, and the idempotency key is not used up."""

    retryable: Literal[False] = Field(description="The same request, now and unchanged, would be refused again.")
    remedies: list[Remedy] = Field(
        description="Ways on, in the order in which to try them. Clients skip types that they do not know."
    )


class RefusingLimit(Reply):
    """The limit without room. Its amounts are in `unit`: whole credits and uses, or exact money."""

    id: str
    scope: Scope
    scope_value: str | None
    window: Window
    unit: str = Field(description="`credits`, `uses`, or the currency of money.")
    amount: str
    spent: str
    resets_at: Timestamp | None = Field(description="When the next window begins. null: never.")


class RefusingRun(Reply):
    """The run, or the ancestor, that does not allow the request."""

    run_id: str
    status: RunStatus
    pause_reason: PauseReason | None
    unit: str | None = Field(description="`credits`, or the currency.")
    budget: str | None
    spent: str | None


class RefusingBrake(Reply):
    """The burn-rate brake, and what it paused."""

    run_id: str | None = Field(description="The paused run. null: the account's use of the API key is paused.")
    unit: str = Field(description="`credits`, or the currency.")
    per_minute: str | None = Field(description="The most that a minute may spend. null: any amount.")
    spent: str


class NotAllowedReply(RefusalReply):
    """402: a limit, a run or the burn-rate brake does not allow the request. Nothing was spent."""

    limit: RefusingLimit | None = Field(default=None, description="Of `limit_exceeded` and `approval_required`.")
    run: RefusingRun | None = Field(
        default=None, description="Of `run_budget_exceeded`, `run_paused` and `run_closed`."
    )
    brake: RefusingBrake | None = Field(default=None, description="Of `burn_rate_exceeded`.")
    required: str | None = Field(default=None, description="The request's amount, in the unit of the limit or budget.")
    approval_id: str | None = Field(default=None, description="The approval that the request waits for.")


class CodedNotAllowedReply(NotAllowedReply):
    """The same in its envelope, which a middleware adds."""

    error: CodedError
