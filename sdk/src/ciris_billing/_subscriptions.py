"""Operations for plans and subscriptions. All but `plans` are for clients with the user's token."""

from typing import Literal

from ciris_billing._calls import CallRunner
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.models import without_none
from ciris_billing.subscriptions import Plan, Plans, PortalPage, Subscription, SubscriptionChange, SubscriptionPage

PATH = "/v1/subscriptions"
Interval = Literal["month", "year"]


class SubscriptionOperations(CallRunner):
    """Sell plans to the user, and change or end the subscription."""

    def plans(self) -> Flow[list[Plan]]:
        """Return the public plans in their order."""
        return (yield from self.exchange.run(Call("plans", "GET", "/v1/plans", as_model(Plans)))).plans

    def subscribe(
        self,
        plan: str,
        *,
        interval: Interval = "month",
        success_url: str | None = None,
        cancel_url: str | None = None,
    ) -> Flow[SubscriptionPage]:
        """Begin to subscribe, and return the provider's page. A repeat returns the same page. Creates a missing
        account, which has the plan once the first invoice is paid: poll `subscription` for `is_subscribed`.

        Raises InvalidRequest for an account that has a subscription (`already_subscribed`), and for a plan that is not
        sold (`unknown_plan`)."""
        body = {"plan": plan, "interval": interval, "success_url": success_url, "cancel_url": cancel_url}
        call = Call("subscribe", "POST", f"{PATH}/checkout", as_model(SubscriptionPage), without_none(body))
        return self.exchange.run(call)

    def subscription(self) -> Flow[Subscription]:
        """Return the user's plan and subscription. Raises NotFound for a user without an account."""
        return self.exchange.run(Call("subscription", "GET", f"{PATH}/me", as_model(Subscription)))

    def change_subscription(
        self,
        plan: str,
        *,
        interval: Interval = "month",
        preview: bool = False,
        prorated_at: int | None = None,
    ) -> Flow[SubscriptionChange]:
        """Change the plan, or with `preview` only return what that would cost. A plan that costs more takes effect now,
        and the saved card pays the difference; one that costs less takes effect at the end of the period.

        A change needs a token that only a person has (PermissionDenied `person_required`). Raises InvalidRequest for a
        payment that fails (`payment_declined`): nothing has changed."""
        body = {"plan": plan, "interval": interval, "preview": preview, "prorated_at": prorated_at}
        parse = as_model(SubscriptionChange)
        call = Call("change_subscription", "POST", f"{PATH}/change", parse, without_none(body), repeatable=preview)
        return self.exchange.run(call)

    def cancel_subscription(self) -> Flow[Subscription]:
        """End the subscription with its period. Until then it stays as it is, and can be resumed."""
        return self.exchange.run(Call("cancel_subscription", "POST", f"{PATH}/cancel", as_model(Subscription)))

    def resume_subscription(self) -> Flow[Subscription]:
        """Let a canceled subscription continue, until it has ended."""
        return self.exchange.run(Call("resume_subscription", "POST", f"{PATH}/resume", as_model(Subscription)))

    def subscription_portal(self, *, return_url: str | None = None) -> Flow[PortalPage]:
        """Open the provider's page with the user's invoices and cards."""
        body = without_none({"return_url": return_url})
        return self.exchange.run(Call("subscription_portal", "POST", f"{PATH}/portal", as_model(PortalPage), body))
