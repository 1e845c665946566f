"""Wire types of plans in the back office."""

from pydantic import Field

from app.auth.caller import Environment
from app.http.schemas import Reply, Timestamp
from app.plans.document import Plan


class PlanRow(Reply):
    plan: Plan
    subscribers: int = Field(description="Subscriptions that have begun and not ended.")
    past_due: int
    on_earlier_terms: int = Field(description="Subscribers who keep another version of the plan.")


class PlansOverviewReply(Reply):
    """Plans in the order of the list for users, the withdrawn ones last."""

    environment: Environment
    version: int = Field(description="Of the configuration of plans.")
    plans: list[PlanRow]


class KeptTermsReply(Reply):
    """A version of the plan as some of its subscribers keep it."""

    plan: Plan
    subscribers: int
    past_due: int
    first_at: Timestamp = Field(description="When the first of them began to keep it.")
    last_at: Timestamp


class PlanVersionReply(Reply):
    """A version of the configuration that added the plan or changed it."""

    version: int
    plan: Plan
    subscribers: int = Field(description="Subscribers who keep exactly this version of the plan.")
    reason: str
    changed_by: str
    changed_at: Timestamp


class PlanReply(PlanRow):
    environment: Environment
    version: int = Field(description="Of the configuration of plans.")
    kept: list[KeptTermsReply] = Field(description="Those that were kept last first.")
    versions: list[PlanVersionReply] = Field(description="Newest first.")
    next_cursor: int | None = Field(description="For older versions. A page can be empty, because other plans changed.")
