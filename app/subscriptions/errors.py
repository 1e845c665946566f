"""Outcomes of subscriptions that end a request."""

from collections.abc import Sequence

from app.errors import AppError


class UnknownPlan(AppError):
    status, code = 422, "unknown_plan"

    def __init__(self, plan: str, known: Sequence[str]) -> None:
        super().__init__(f"plan {plan!r} is not one of {', '.join(known)}", figures={"field": "plan"})


class PlanNotSold(AppError):
    """The plan has no price for the interval in the account's currency, or Stripe has none in this environment."""

    status, code = 422, "plan_not_sold"

    def __init__(self, plan: str, interval: str, currency: str) -> None:
        super().__init__(f"plan {plan!r} is not sold by the {interval} in {currency}", figures={"field": "plan"})


class AlreadySubscribed(AppError):
    """The account has a subscription: change it instead of beginning another."""

    status, code = 409, "already_subscribed"

    def __init__(self) -> None:
        super().__init__("The account has a subscription already. Change it instead")


class NoSubscription(AppError):
    status, code = 404, "no_subscription"

    def __init__(self) -> None:
        super().__init__("The Account has no subscription that this could change")


class ChangeNotPossible(AppError):
    """The change would begin another billing period now, although the present one is paid."""

    status, code = 409, "change_not_possible"

    def __init__(self, why: str) -> None:
        super().__init__(why)


class SubscriptionNotFound(AppError):
    """The account has no subscription with this id at Stripe."""

    status, code = 404, "subscription_not_found"

    def __init__(self) -> None:
        super().__init__("The account has no subscription with this id")


class PlanNotFound(AppError):
    """No plan has this name, not even a withdrawn one."""

    status, code = 404, "plan_not_found"

    def __init__(self) -> None:
        super().__init__("No plan has this name")
