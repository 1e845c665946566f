"""Operations for usage: report it, and ask beforehand what it costs and whether the user can pay."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ciris_billing._calls import IDENTITY, CallRunner
from ciris_billing._exchange import Call, Flow, as_model, or_replayed
from ciris_billing.errors import Unavailable
from ciris_billing.models import User, without_none
from ciris_billing.usage import (
    DUPLICATE,
    Quote,
    Usage,
    UsageBatch,
    UsageCheck,
    UsageEvent,
    UsageItem,
    UsageRecorded,
    payer,
)

MAX_BATCH_EVENTS = 1000


class UsageOperations(CallRunner):
    """Report metered usage."""

    def report_usage(self, event: UsageEvent) -> Flow[UsageRecorded]:
        """Report one usage event, priced by the service and paid from the user's money. Needs a key with the permission
        `usage:write`. An event that was recorded before costs nothing and has `replayed` set: after an error, send the
        same object again.

        Raises InsufficientMoney, LimitExceeded and RunRefused if the key's policy is to refuse, EventIdReused (same id,
        other content), InvalidRequest."""
        parse, replays = or_replayed(UsageRecorded), frozenset({DUPLICATE})
        return self.exchange.run(Call("report_usage", "POST", "/v1/usage", parse, event.body(), replays=replays))

    def report_usage_batch(self, events: Sequence[UsageEvent | Mapping[str, Any]]) -> Flow[list[UsageItem]]:
        """Report up to 1,000 events, given as objects or as their `body()`. Return the result of each, in the same
        order. A refused event raises nothing and does not affect the others: look at `is_delivered`."""
        bodies = [event.body() if isinstance(event, UsageEvent) else event for event in events]
        ids = [body["event_id"] for body in bodies]

        def parse(status: int, fields: dict[str, Any]) -> list[UsageItem]:
            return UsageBatch.model_validate(fields, context=ids).results

        return self.exchange.run(Call("report_usage_batch", "POST", "/v1/usage/batch", parse, {"events": bodies}))

    def quote(
        self,
        usage: Usage,
        *,
        user: User | None = None,
        user_id: str | None = None,
        plan: str | None = None,
        tool: str | None = None,
        time: datetime | None = None,
    ) -> Flow[Quote]:
        """Return what a use costs, line by line, exactly as it would be charged. Changes nothing. With a user, the plan
        of its account decides, and the terms that a subscriber keeps; with a `plan`, that plan as it is on sale. A
        `tool` can have another price; `time` asks for the prices in force then."""
        named = {} if user is None and user_id is None else payer(user, user_id)
        body = {
            **{name: value for name, value in named.items() if name in IDENTITY},
            "metric": usage.metric(),
            "plan": plan,
            "tool": tool,
            "time": None if time is None else time.isoformat(),
        }
        return self.exchange.run(Call("quote", "POST", "/v1/usage/quote", as_model(Quote), without_none(body)))

    def check_usage(
        self,
        user: User | None = None,
        *,
        user_id: str | None = None,
        required_cents: int = 0,
        provider: str | None = None,
        model: str | None = None,
    ) -> Flow[UsageCheck]:
        """Return whether the user's money covers an amount, before work. Without an amount, `provider` and `model` ask
        for the price of a call with 2,000 tokens in and 1,000 out. Creates a missing account, and holds nothing.

        With the policy `fail_open`, the result is positive (`assumed`) while the service is unavailable."""
        body = {**payer(user, user_id), "required_cents": required_cents, "provider": provider, "model": model}
        call = Call("check_usage", "POST", "/v1/usage/check", as_model(UsageCheck), without_none(body))
        try:
            return (yield from self.exchange.run(call))
        except Unavailable:
            if self.policy == "fail_closed":
                raise
            return UsageCheck.assume()
