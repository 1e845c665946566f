"""Operations for limits and approvals."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, Unpack

from ciris_billing._calls import CallRunner, identity, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.limits import SpendingLimit, SpendingLimits, scope_of
from ciris_billing.live import Approval
from ciris_billing.models import User, UserFields, request_fields, without_none

PATH, OWN_PATH = "/v1/billing/limits", "/v1/accounts/me/limits"
APPROVALS = "/v1/billing/approvals"


class LimitOperations(CallRunner):
    """Bound what an account spends. Without a user, the client's token determines the account, and the user owns the
    limits; with an API key, the operator does."""

    def limits(self, user: User | None = None, **user_fields: Unpack[UserFields]) -> Flow[list[SpendingLimit]]:
        """Return the account's limits with their counters, of both owners."""
        query = identity(request_fields(user, user_fields)) or None
        call = Call("limits", "GET", PATH if query else OWN_PATH, as_model(SpendingLimits), query=query)
        return (yield from self.exchange.run(call)).limits

    def set_limit(
        self,
        user: User | None = None,
        *,
        window: Literal["minute", "hour", "day", "month", "lifetime"],
        unit: Literal["credits", "money", "uses"],
        amount: Decimal | str | int,
        scope: Mapping[str, str] | str | None = None,
        action: Literal["refuse", "notify", "ask"] | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[SpendingLimit]:
        """Set a limit, or change the amount of the one with its scope, window, unit and action. The counter stays.

        `scope` is the account, or as text `agent:scout`, `key:…`, `model:…` or `tool:…`. Needs `limits:write`; with a
        user's token, raising one raises PermissionDenied (`person_required`). Raises InvalidRequest, AccountClosed."""
        payer = request_fields(user, user_fields)
        terms = {"scope": scope_of(scope), "window": window, "unit": unit, "amount": str(amount), "action": action}
        body = {**payer, **without_none(terms)}
        path = PATH if identity(payer) else OWN_PATH
        return self.run_and_forget(Call("set_limit", "PUT", path, as_model(SpendingLimit), body))

    def remove_limit(self, limit_id: str, *, own: bool = False) -> Flow[SpendingLimit]:
        """Remove a limit, and return it: of the operator, or `own` with a user's token. Raises NotFound,
        PermissionDenied."""
        path = f"{OWN_PATH if own else PATH}/{quoted(limit_id)}"
        return self.exchange.run(Call("remove_limit", "DELETE", path, as_model(SpendingLimit), repeatable=False))

    def get_approval(self, approval_id: str) -> Flow[Approval]:
        """Return an approval, such as that of ApprovalRequired. Poll it until its `status` is `approved`, and then send
        the refused request again. Needs an API key with `billing:read`. Raises NotFound."""
        return self.exchange.run(Call("get_approval", "GET", f"{APPROVALS}/{quoted(approval_id)}", as_model(Approval)))
