"""The API's operations as flows, from which both clients' methods are built (client.py, async_client.py).

Pass a user as a `User` or as keywords: `oauth_provider` and `external_id`, or `user_id`. Clients with a user's token
pass none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack
from uuid import UUID

from ciris_billing._calls import identity, one_key, quoted
from ciris_billing._charges import BY_KEY, ChargeOperations
from ciris_billing._cost_records import CostRecordOperations
from ciris_billing._exchange import Call, Flow, as_model, or_replayed
from ciris_billing._holds import HoldOperations
from ciris_billing._limits import LimitOperations
from ciris_billing._payments import PaymentOperations
from ciris_billing._purchases import PurchaseOperations
from ciris_billing._runs import RunOperations
from ciris_billing._subscriptions import SubscriptionOperations
from ciris_billing._tools import ToolOperations
from ciris_billing._usage import UsageOperations
from ciris_billing.errors import InvalidRequest, Unavailable
from ciris_billing.keys import charge_key
from ciris_billing.models import (
    Account,
    Charge,
    CheckContext,
    Credit,
    CreditStatus,
    Health,
    LlmUsageLogged,
    Metadata,
    TransactionPage,
    User,
    UserFields,
    request_fields,
    without_none,
)

UNPAYABLE_MINOR = 2**63 - 1
DOUBLE_OF = {"Probable-Double-Charge": "probable_double_of"}
REPLAYABLE = frozenset({200, 201, 409})
"""The statuses of a charge or credit and of its replay. 422 `idempotency_key_reused` is none: the amount differs."""


class Operations(
    ChargeOperations,
    PurchaseOperations,
    PaymentOperations,
    SubscriptionOperations,
    ToolOperations,
    UsageOperations,
    CostRecordOperations,
    HoldOperations,
    LimitOperations,
    RunOperations,
):
    """All operations of the API."""

    def check_credit(
        self, user: User | None = None, *, context: CheckContext | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[CreditStatus]:
        """Check whether the user has credit. Call it before each interaction. Creates a missing account with its free
        uses.

        With the policy `fail_open`, the result is positive (`assumed`) while the service is unavailable."""
        request = request_fields(user, user_fields)
        cached = self.cache.get(request, self.exchange.clock())
        if cached is not None:
            return cached
        entry = self.cache.begin(request)
        body = {**request, "context": context} if context else request
        call = Call("check_credit", "POST", "/v1/billing/credits/check", as_model(CreditStatus), body)
        try:
            status = yield from self.exchange.run(call)
        except Unavailable:
            if self.policy == "fail_open":
                return CreditStatus.assume()
            raise
        self.cache.put(entry, status, self.exchange.clock())
        return status

    def charge(
        self,
        user: User | None = None,
        *,
        interaction_id: str | None = None,
        idempotency_key: str | None = None,
        amount_minor: int = 100,
        currency: str | None = None,
        description: str | None = None,
        metadata: Metadata | None = None,
        run_id: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[Charge]:
        """Charge a completed interaction; an `amount_minor` of 100 is one use. Pass an `interaction_id`, or an
        `idempotency_key` of your own: a repeated charge with the same one costs nothing and has `replayed` set. It
        counts in the budgets of the run `run_id` and of the runs above it. `probable_double_of` names an earlier charge
        for the same purpose, if the API key watches for double charges.

        Raises InsufficientCredits, LimitExceeded, RunRefused, AccountSuspended, AccountClosed, IdempotencyKeyReused
        (same key, other amount)."""
        body = {
            **request_fields(user, user_fields),
            "amount_minor": amount_minor,
            "currency": currency,
            "description": description,
            "idempotency_key": one_key(idempotency_key, interaction_id, charge_key),
            "metadata": metadata,
            "run_id": run_id,
        }
        call = Call(
            "charge",
            "POST",
            "/v1/billing/charges",
            or_replayed(Charge),
            without_none(body),
            accepted=REPLAYABLE,
            noted=DOUBLE_OF,
        )
        return (yield from self.run_and_forget(call))

    def was_charged(
        self,
        user: User | None = None,
        *,
        interaction_id: str | None = None,
        idempotency_key: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[bool]:
        """Return whether an interaction is charged, without charging it. Pass the same `interaction_id` or
        `idempotency_key` as for its charge. Clients with an API key see the charges of API keys, clients with a user's
        token those of the user's tokens, so that a user cannot make an agent's charge appear paid.

        On services without this route, a used key raises IdempotencyKeyReused, because these services do not return
        its user and amount."""
        request = request_fields(user, user_fields)
        key = one_key(idempotency_key, interaction_id, charge_key)
        query = {**identity(request), "idempotency_key": key}
        call = Call("was_charged", "GET", BY_KEY, _was_found, query=query, accepted=frozenset({200, 404}))
        try:
            found = yield from self.exchange.run(call)
        except InvalidRequest as error:
            if not _took_route_for_charge_id(error):
                raise
            found = None
        return (yield from self._was_charged_at_old_service(request, key)) if found is None else found

    def _was_charged_at_old_service(self, request: Mapping[str, Any], key: str) -> Flow[bool]:
        """Ask a service without the route `by-key`, by a charge above any balance: 402 proves that the key is new."""
        body = {**request, "amount_minor": UNPAYABLE_MINOR, "idempotency_key": key}
        call = Call("was_charged", "POST", "/v1/billing/charges", _is_replay, body, accepted=frozenset({402, 409}))
        return self.exchange.run(call)

    def get_charge(self, charge_id: UUID | str) -> Flow[Charge]:
        """Return a charge by its id. Raises NotFound."""
        return self.exchange.run(
            Call("get_charge", "GET", f"/v1/billing/charges/{quoted(str(charge_id))}", as_model(Charge))
        )

    def add_credits(
        self,
        user: User | None = None,
        *,
        amount_minor: int,
        idempotency_key: str,
        transaction_type: Literal["purchase", "grant", "refund", "adjustment", "bonus"] = "grant",
        currency: str | None = None,
        description: str | None = None,
        external_transaction_id: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[Credit]:
        """Add paid credits; an `amount_minor` of 100 is one credit, and only whole credits are allowed. Needs a key
        with the permission `billing:credit`.

        Raises NotFound for a user without an account."""
        body = {
            **request_fields(user, user_fields),
            "amount_minor": amount_minor,
            "idempotency_key": idempotency_key,
            "transaction_type": transaction_type,
            "currency": currency,
            "description": description,
            "external_transaction_id": external_transaction_id,
        }
        call = Call(
            "add_credits", "POST", "/v1/billing/credits", or_replayed(Credit), without_none(body), accepted=REPLAYABLE
        )
        return (yield from self.run_and_forget(call))

    def get_or_create_account(
        self,
        user: User | None = None,
        *,
        initial_balance_minor: int | None = None,
        currency: str | None = None,
        plan_name: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[Account]:
        """Return the user's account; create it with these options if it does not exist."""
        body = {
            **request_fields(user, user_fields),
            "initial_balance_minor": initial_balance_minor,
            "currency": currency,
            "plan_name": plan_name,
        }
        return self.exchange.run(
            Call("get_or_create_account", "POST", "/v1/billing/accounts", as_model(Account), without_none(body))
        )

    def get_account(
        self, user: User | None = None, *, account_id: UUID | str | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[Account]:
        """Return an account by its id or its user, without creating it. Raises NotFound."""
        query = None
        if account_id is not None:
            path = quoted(str(account_id))
        else:
            named = identity(request_fields(user, user_fields))
            if "user_id" in named:
                path, query = "by-user", named
            elif len(named) == 2:
                path = "/".join(quoted(part) for part in named.values())
            else:
                raise TypeError("pass a User, oauth_provider and external_id, a user_id, or an account_id")
        call = Call("get_account", "GET", f"/v1/billing/accounts/{path}", as_model(Account), query=query)
        return self.exchange.run(call)

    def transaction_page(
        self, user: User | None = None, *, limit: int = 50, offset: int = 0, **user_fields: Unpack[UserFields]
    ) -> Flow[TransactionPage]:
        """Return a page of charges and credits, newest first; `limit` is 1 to 500. Empty for an unknown user."""
        query = {**identity(request_fields(user, user_fields)), "limit": limit, "offset": offset}
        call = Call("transactions", "GET", "/v1/billing/transactions", as_model(TransactionPage), query=query)
        return self.exchange.run(call)

    def report_llm_usage(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        total_llm_calls: int,
        total_prompt_tokens: int,
        total_completion_tokens: int,
        models_used: Sequence[str],
        actual_cost_cents: float,
        duration_ms: int,
        error_count: int = 0,
        fallback_count: int = 0,
        call_id: str | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Flow[LlmUsageLogged]:
        """Report the usage and cost of an interaction's LLM calls. Changes no credits. A report with a `call_id` counts
        once, even if it is repeated; without one, it is not retried after a lost answer."""
        body = {
            **request_fields(user, user_fields),
            "interaction_id": interaction_id,
            **({} if call_id is None else {"call_id": call_id}),
            "total_llm_calls": total_llm_calls,
            "total_prompt_tokens": total_prompt_tokens,
            "total_completion_tokens": total_completion_tokens,
            "models_used": list(models_used),
            "actual_cost_cents": actual_cost_cents,
            "duration_ms": duration_ms,
            "error_count": error_count,
            "fallback_count": fallback_count,
        }
        parse = as_model(LlmUsageLogged)
        call = Call(
            "report_llm_usage", "POST", "/v1/billing/litellm/usage", parse, body, repeatable=call_id is not None
        )
        return self.exchange.run(call)

    def health(self) -> Flow[Health]:
        """Return the health of the service and its database. An unhealthy service is a result, not an error."""
        return self.exchange.run(Call("health", "GET", "/health", as_model(Health), accepted=frozenset({200, 503})))


def _was_found(status: int, fields: Mapping[str, Any]) -> bool | None:
    """Return whether the charge exists; None if the service does not know the route."""
    if status == 200:
        Charge.model_validate(fields)
        return True
    return False if fields.get("code") == "charge_not_found" else None


def _took_route_for_charge_id(error: InvalidRequest) -> bool:
    """Whether the service parsed `by-key` as a charge id, because it does not have that route."""
    return any(field.get("loc") == ["path", "charge_id"] for field in error.fields)


def _is_replay(status: int, fields: Mapping[str, Any]) -> bool:
    return status == 409
