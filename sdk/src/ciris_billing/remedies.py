"""Remedies: proposals of the service for a refused request, in the order in which to try them.

except InsufficientCredits as refused:
    for remedy in refused.remedies:
        match remedy:
            case SmallerAmount(amount_minor=int(most)):
                return billing.charge(user, amount_minor=most, idempotency_key=key)
            case Wait(until=until):
                ...
            case PurchaseOffer(pack=pack):
                return billing.create_purchase(user, pack=pack)
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from ciris_billing.models import Reply
from ciris_billing.usage import Amount


class SmallerAmount(Reply):
    """The largest amount that the same request could spend now: `amount_minor` of credits, in hundredths, or `amount`
    of money. The refused request's idempotency key can be used for it."""

    type: Literal["smaller_amount"]
    amount_minor: int | None = None
    amount: Amount | None = None
    currency: str | None = None


class CheaperModel(Reply):
    """A model of the same provider with which the same tokens cost `cost`, which the account can pay now."""

    type: Literal["cheaper_model"]
    provider: str
    model: str
    cost: Amount
    currency: str
    price_version: int


class Wait(Reply):
    """At `until` the same request would succeed, unless something else spends first. `reason` is what renews:
    `daily_free_uses`, or `limit`: the window of a limit."""

    type: Literal["wait"]
    until: datetime
    reason: str


class RequestApproval(Reply):
    """A person was asked to allow the request. Once `approval_id` is approved, the same request succeeds."""

    type: Literal["request_approval"]
    approval_id: str
    until: datetime


class PurchaseOffer(Reply):
    """A pack that a user can buy: `count` of it cover the shortfall. Price and credits are those of one."""

    type: Literal["purchase"]
    pack: str
    count: int
    credits: int
    price_minor: int
    currency: str
    currency_digits: int
    method: str
    path: str


Remedy: TypeAlias = SmallerAmount | CheaperModel | Wait | RequestApproval | PurchaseOffer
_REMEDY: TypeAdapter[Remedy] = TypeAdapter(Annotated[Remedy, Field(discriminator="type")])


def remedies_in(answer: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """Return the remedies of an answer, without those that this version does not know."""
    given = answer.get("remedies")
    found = []
    for item in given if isinstance(given, list) else ():
        try:
            found.append(_REMEDY.validate_python(item))
        except ValidationError:
            continue  # a type of a newer service
    return tuple(found)
