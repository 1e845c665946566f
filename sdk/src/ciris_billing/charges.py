"""Charges in batches: up to 1,000 in one request, each with its own outcome.

outcomes = billing.charge_batch([NewCharge(user=user, interaction_id=message) for message in answered])
unpaid = [outcome for outcome in outcomes if not outcome.is_charged]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ciris_billing._calls import one_key
from ciris_billing._failures import error_for
from ciris_billing.errors import BillingError, InvalidReply
from ciris_billing.keys import charge_key
from ciris_billing.models import Charge, Metadata, User, without_none
from ciris_billing.usage import payer

DOUBLE_CHARGE = "probable_double_charge"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCharge:
    """A charge of a batch: of a `User`, or of a `user_id` (the external id under the identity provider of the API key).

    It has an `interaction_id`, or an `idempotency_key`, as in `charge`. An `amount_minor` of 100 is one use. It counts
    in the budgets of the run `run_id` and of the runs above it.
    """

    user: User | None = None
    user_id: str | None = None
    interaction_id: str | None = None
    idempotency_key: str | None = None
    amount_minor: int = 100
    currency: str | None = None
    description: str | None = None
    metadata: Metadata | None = None
    run_id: str | None = None

    def __post_init__(self) -> None:
        self.body()  # refuses a charge without a user or a key

    def body(self) -> dict[str, Any]:
        """Return the charge as the service reads it."""
        names = ("amount_minor", "currency", "description", "metadata", "run_id")
        key = one_key(self.idempotency_key, self.interaction_id, charge_key)
        given = without_none({name: getattr(self, name) for name in names})
        return {**payer(self.user, self.user_id), **given, "idempotency_key": key}


@dataclass(frozen=True, slots=True)
class ChargeOutcome:
    """The outcome of one charge of a batch: a `charge`, or the `error` that `charge` would have raised."""

    idempotency_key: str
    charge: Charge | None = None
    error: BillingError | None = None

    @property
    def is_charged(self) -> bool:
        """Whether the charge is recorded, now or before (`charge.replayed`), or refused as a double one."""
        return self.charge is not None


def outcomes_in(fields: Mapping[str, Any], keys: Sequence[str]) -> list[ChargeOutcome]:
    """Return the outcomes in an answer, one for each key. Raises InvalidReply for any other answer."""
    results = fields.get("results")
    if not isinstance(results, list) or len(results) != len(keys):
        raise InvalidReply("The answer does not match the API: it has not one result for each charge")
    return [_outcome(result, key) for result, key in zip(results, keys, strict=True)]


def _outcome(result: Any, key: str) -> ChargeOutcome:
    known = result if isinstance(result, dict) else {}
    status, body = known.get("status"), known.get("body")
    if not isinstance(status, int) or not isinstance(body, dict):
        raise InvalidReply("The answer does not match the API: a result has no status or no body")
    if status in (200, 201, 409):
        is_refused = body.get("code") == DOUBLE_CHARGE
        double_of = body.get("charge_id") if is_refused else known.get("probable_double_of")
        about = {"replayed": status == 409, "probable_double_of": double_of}
        return ChargeOutcome(key, charge=Charge.model_validate({**body, **about}))
    return ChargeOutcome(key, error=error_for(status, body, retry_after=None, request_id=body.get("request_id")))
