"""Operations for tools: balances, checks and charges by product."""

from typing import Unpack

from ciris_billing._calls import CallRunner, identity, one_key, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.keys import tool_key
from ciris_billing.models import (
    ToolBalance,
    ToolBalances,
    ToolCharge,
    ToolCheck,
    User,
    UserFields,
    request_fields,
    without_none,
)


class ToolOperations(CallRunner):
    """Check and charge the use of tools."""

    def tool_balance(
        self, product_type: str, user: User | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[ToolBalance]:
        """Return the user's balance for a tool. Raises InvalidRequest for a tool that is not in the catalogue."""
        path = f"/v1/tools/balance/{quoted(product_type)}"
        query = identity(request_fields(user, user_fields))
        return self.exchange.run(Call("tool_balance", "GET", path, as_model(ToolBalance), query=query))

    def tool_balances(self, user: User | None = None, **user_fields: Unpack[UserFields]) -> Flow[list[ToolBalance]]:
        """Return the user's balance for each tool."""
        query = identity(request_fields(user, user_fields))
        call = Call("tool_balances", "GET", "/v1/tools/balance", as_model(ToolBalances), query=query)
        return (yield from self.exchange.run(call)).balances

    def tool_check(
        self, product_type: str, user: User | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[ToolCheck]:
        """Check whether the user can pay the next use of a tool. Raises InvalidRequest as tool_balance does."""
        path = f"/v1/tools/check/{quoted(product_type)}"
        query = identity(request_fields(user, user_fields))
        return self.exchange.run(Call("tool_check", "GET", path, as_model(ToolCheck), query=query))

    def tool_charge(
        self,
        product_type: str,
        user: User | None = None,
        *,
        call_id: str | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        run_id: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[ToolCharge]:
        """Charge one use of a tool, before it runs. Pass a `call_id`, or an `idempotency_key` of your own: a repeated
        charge with the same one returns the first result and spends nothing. It counts in the budgets of the run
        `run_id` and of the runs above it.

        Raises InsufficientCredits, LimitExceeded, RunRefused, AccountSuspended, AccountClosed, InvalidRequest as
        tool_balance does."""

        def key_of(call_id: str) -> str:
            return tool_key(product_type, call_id)

        body = {
            **request_fields(user, user_fields),
            "product_type": product_type,
            "idempotency_key": one_key(idempotency_key, call_id, key_of),
            "request_id": request_id,
            "run_id": run_id,
        }
        call = Call("tool_charge", "POST", "/v1/tools/charge", as_model(ToolCharge), without_none(body))
        return (yield from self.run_and_forget(call))
