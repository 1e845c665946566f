"""Every call of the API, as a flow. Both clients' methods are made from these: see client.py.

A user is given as a `User`, by keyword, or, by clients with a user's token, not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack
from urllib.parse import quote
from uuid import UUID

from ciris_billing._cache import CheckCache
from ciris_billing._exchange import Call, Exchange, Flow, Pause, as_model, or_replayed
from ciris_billing.errors import InvalidRequest, PurchaseFailed, PurchasePending, Unavailable, unsendable
from ciris_billing.keys import charge_key, tool_key
from ciris_billing.models import (
    Account,
    Charge,
    CheckContext,
    Credit,
    CreditStatus,
    Currencies,
    Health,
    LlmUsageLogged,
    Metadata,
    Pack,
    Packs,
    Purchase,
    PurchaseStatus,
    ToolBalance,
    ToolBalances,
    ToolCharge,
    ToolCheck,
    TransactionPage,
    User,
    UserFields,
    request_fields,
    without_none,
)

T = TypeVar("T")
FailPolicy = Literal["fail_closed", "fail_open"]
IDENTITY = ("oauth_provider", "external_id")
MORE_THAN_ANYBODY_HAS_MINOR = 2**63 - 1
REPLAYABLE = frozenset({200, 201, 409})
"""What counts as charged or credited. 422 `idempotency_key_reused` does not: another amount was paid."""
BY_KEY = "/v1/billing/charges/by-key"
FIRST_POLL_S, LONGEST_POLL_S = 0.5, 5.0


class Operations:
    """The calls, given how they are made."""

    def __init__(self, exchange: Exchange, cache: CheckCache, policy: FailPolicy) -> None:
        self.exchange = exchange
        self.cache = cache
        self.policy = policy

    def check_credit(
        self, user: User | None = None, *, context: CheckContext | None = None, **who: Unpack[UserFields]
    ) -> Flow[CreditStatus]:
        """Whether the user may go on. Ask before each interaction. Creates a missing account with its free uses.

        With the policy `fail_open`, a service that cannot be asked counts as yes (`assumed`)."""
        asked = request_fields(user, who)
        cached = self.cache.get(asked, self.exchange.clock())
        if cached is not None:
            return cached
        question = self.cache.begin(asked)
        body = {**asked, "context": context} if context else asked
        call = Call("check_credit", "POST", "/v1/billing/credits/check", as_model(CreditStatus), body)
        try:
            status = yield from self.exchange.run(call)
        except Unavailable:
            if self.policy == "fail_open":
                return CreditStatus.assume()
            raise
        self.cache.put(question, status, self.exchange.clock())
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
        **who: Unpack[UserFields],
    ) -> Flow[Charge]:
        """Charge an interaction that happened: 100 is one use. Name it by `interaction_id`, or choose its
        `idempotency_key`; charged again under the same name it costs nothing and says `replayed`.

        Raises InsufficientCredits, AccountSuspended, IdempotencyKeyReused (the same name, another amount)."""
        body = {
            **request_fields(user, who),
            "amount_minor": amount_minor,
            "currency": currency,
            "description": description,
            "idempotency_key": _one_key(idempotency_key, interaction_id, charge_key),
            "metadata": metadata,
        }
        call = Call(
            "charge", "POST", "/v1/billing/charges", or_replayed(Charge), without_none(body), accepted=REPLAYABLE
        )
        return (yield from self._moving(call))

    def was_charged(
        self,
        user: User | None = None,
        *,
        interaction_id: str | None = None,
        idempotency_key: str | None = None,
        **who: Unpack[UserFields],
    ) -> Flow[bool]:
        """Whether the interaction is paid for. Charges nothing. Name it as its charge does, by `interaction_id` or
        `idempotency_key`. Clients with an API key see the charges of API keys, clients with a user's token those of
        the user's tokens: a user cannot make an agent's charge look paid.

        A service that is too old to be asked raises IdempotencyKeyReused for a key that was used: it cannot tell by
        whom, or for how much."""
        asked = request_fields(user, who)
        key = _one_key(idempotency_key, interaction_id, charge_key)
        query = {**_identity(asked), "idempotency_key": key}
        call = Call("was_charged", "GET", BY_KEY, _was_found, query=query, accepted=frozenset({200, 404}))
        try:
            found = yield from self.exchange.run(call)
        except InvalidRequest as error:
            if not _took_route_for_charge_id(error):
                raise
            found = None
        return (yield from self._was_charged_at_old_service(asked, key)) if found is None else found

    def _was_charged_at_old_service(self, asked: Mapping[str, Any], key: str) -> Flow[bool]:
        """Ask a service without the route `by-key`, by a charge that nobody can pay: 402 proves that the key is new."""
        body = {**asked, "amount_minor": MORE_THAN_ANYBODY_HAS_MINOR, "idempotency_key": key}
        call = Call("was_charged", "POST", "/v1/billing/charges", _is_replay, body, accepted=frozenset({402, 409}))
        return self.exchange.run(call)

    def get_charge(self, charge_id: UUID | str) -> Flow[Charge]:
        """Raises NotFound."""
        return self.exchange.run(
            Call("get_charge", "GET", f"/v1/billing/charges/{_quoted(str(charge_id))}", as_model(Charge))
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
        **who: Unpack[UserFields],
    ) -> Flow[Credit]:
        """Give paid credits: 100 is one, and only whole ones. Needs a key with `billing:credit`.

        Raises NotFound for a user without an account."""
        body = {
            **request_fields(user, who),
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
        return (yield from self._moving(call))

    def get_or_create_account(
        self,
        user: User | None = None,
        *,
        initial_balance_minor: int | None = None,
        currency: str | None = None,
        plan_name: str | None = None,
        **who: Unpack[UserFields],
    ) -> Flow[Account]:
        """The user's account. The options count only if it has to be created."""
        body = {
            **request_fields(user, who),
            "initial_balance_minor": initial_balance_minor,
            "currency": currency,
            "plan_name": plan_name,
        }
        return self.exchange.run(
            Call("get_or_create_account", "POST", "/v1/billing/accounts", as_model(Account), without_none(body))
        )

    def get_account(
        self, user: User | None = None, *, account_id: UUID | str | None = None, **who: Unpack[UserFields]
    ) -> Flow[Account]:
        """By its id or by its user. Raises NotFound; creates nothing."""
        if account_id is not None:
            path = _quoted(str(account_id))
        else:
            named = _identity(request_fields(user, who))
            if len(named) != len(IDENTITY):
                raise TypeError("whose account: give a User, oauth_provider and external_id, or an account_id")
            path = "/".join(_quoted(part) for part in named.values())
        return self.exchange.run(Call("get_account", "GET", f"/v1/billing/accounts/{path}", as_model(Account)))

    def transaction_page(
        self, user: User | None = None, *, limit: int = 50, offset: int = 0, **who: Unpack[UserFields]
    ) -> Flow[TransactionPage]:
        """Charges and credits, newest first, 1 to 500 at a time. An unknown user has none."""
        query = {**_identity(request_fields(user, who)), "limit": limit, "offset": offset}
        call = Call("transactions", "GET", "/v1/billing/transactions", as_model(TransactionPage), query=query)
        return self.exchange.run(call)

    def create_purchase(
        self,
        user: User | None = None,
        *,
        pack: str | None = None,
        return_url: str | None = None,
        idempotency_key: str | None = None,
        **who: Unpack[UserFields],
    ) -> Flow[Purchase]:
        """Begin to sell credits: hand `client_secret` and `publishable_key` to Stripe.js in the buyer's browser.

        While an equal purchase is open, that one comes back. Raises ServiceUnavailable with the code
        `payments_not_configured` where nothing is for sale."""
        body = {
            **request_fields(user, who),
            "pack": pack,
            "return_url": return_url,
            "idempotency_key": idempotency_key,
        }
        call = Call("create_purchase", "POST", "/v1/billing/purchases", as_model(Purchase), without_none(body))
        return self.exchange.run(call)

    def packs(self, user: User | None = None, **who: Unpack[UserFields]) -> Flow[list[Pack]]:
        """The packs that a user can buy, the default one first. With an API key and without a user: all of them."""
        query = _identity(request_fields(user, who)) or None
        call = Call("packs", "GET", "/v1/billing/packs", as_model(Packs), query=query)
        return (yield from self.exchange.run(call)).packs

    def currencies(self) -> Flow[Currencies]:
        """The currencies that Stripe charges, with their digits: what turns minor units into an amount to show."""
        return self.exchange.run(Call("currencies", "GET", "/v1/billing/currencies", as_model(Currencies)))

    def purchase_status(
        self, payment_id: str, user: User | None = None, **who: Unpack[UserFields]
    ) -> Flow[PurchaseStatus]:
        """How a purchase stands. Given a user, raises NotFound for a payment that is not theirs: give one whenever the
        payment's id comes from a browser."""
        path = f"/v1/billing/purchases/{_quoted(payment_id)}/status"
        query = _identity(request_fields(user, who)) or None
        return self.exchange.run(Call("purchase_status", "GET", path, as_model(PurchaseStatus), query=query))

    def wait_for_purchase(
        self, payment_id: str, user: User | None = None, *, timeout_s: float = 120.0, **who: Unpack[UserFields]
    ) -> Flow[PurchaseStatus]:
        """Until the credits are booked, asking less and less often. An outage of the service is waited through.

        Raises PurchaseFailed (declined or canceled), PurchasePending (`timeout_s` is over), NotFound."""
        give_up_at = self.exchange.clock() + timeout_s
        last = "unknown"
        for wait in _polls():
            try:
                status = yield from self.purchase_status(payment_id, user, **who)
            except Unavailable:
                if self.exchange.clock() >= give_up_at:
                    raise
            else:
                last = status.status
                if last == "succeeded":
                    for_whom = request_fields(user, who)
                    self.cache.forget(for_whom)
                    return status
                if status.is_final:
                    raise PurchaseFailed(last)
            left = give_up_at - self.exchange.clock()
            if left <= 0:
                break
            yield Pause(min(wait, left))
        raise PurchasePending(last)

    def tool_balance(self, product_type: str, user: User | None = None, **who: Unpack[UserFields]) -> Flow[ToolBalance]:
        """What the user can spend on a tool. Raises InvalidRequest for a tool that is not in the catalogue."""
        path = f"/v1/tools/balance/{_quoted(product_type)}"
        query = _identity(request_fields(user, who))
        return self.exchange.run(Call("tool_balance", "GET", path, as_model(ToolBalance), query=query))

    def tool_balances(self, user: User | None = None, **who: Unpack[UserFields]) -> Flow[list[ToolBalance]]:
        """What the user can spend on each tool."""
        query = _identity(request_fields(user, who))
        call = Call("tool_balances", "GET", "/v1/tools/balance", as_model(ToolBalances), query=query)
        return (yield from self.exchange.run(call)).balances

    def tool_check(self, product_type: str, user: User | None = None, **who: Unpack[UserFields]) -> Flow[ToolCheck]:
        """Whether the next use of a tool is paid for. Raises InvalidRequest as tool_balance does."""
        path = f"/v1/tools/check/{_quoted(product_type)}"
        query = _identity(request_fields(user, who))
        return self.exchange.run(Call("tool_check", "GET", path, as_model(ToolCheck), query=query))

    def tool_charge(
        self,
        product_type: str,
        user: User | None = None,
        *,
        call_id: str | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        **who: Unpack[UserFields],
    ) -> Flow[ToolCharge]:
        """Charge one use of a tool, before it runs. Name the use by `call_id`, or choose its `idempotency_key`; charged
        again under the same name, the first result comes back and nothing is spent.

        Raises InsufficientCredits, AccountSuspended, InvalidRequest as tool_balance does."""

        def key_of(call_id: str) -> str:
            return tool_key(product_type, call_id)

        body = {
            **request_fields(user, who),
            "product_type": product_type,
            "idempotency_key": _one_key(idempotency_key, call_id, key_of),
            "request_id": request_id,
        }
        call = Call("tool_charge", "POST", "/v1/tools/charge", as_model(ToolCharge), without_none(body))
        return (yield from self._moving(call))

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
        **who: Unpack[UserFields],
    ) -> Flow[LlmUsageLogged]:
        """Report what an interaction's LLM calls cost; moves no credits. A report that names its call counts once
        however often it arrives; without `call_id` it is not repeated when its answer is lost."""
        body = {
            **request_fields(user, who),
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
        """Whether the service is up and its database answers; an unhealthy one is an answer, not an error."""
        return self.exchange.run(Call("health", "GET", "/health", as_model(Health), accepted=frozenset({200, 503})))

    def _moving(self, call: Call[T]) -> Flow[T]:
        """Run a call that moves the user's credits: what was known about them before is forgotten, even if it fails."""
        assert call.body is not None
        try:
            return (yield from self.exchange.run(call))
        finally:
            self.cache.forget(call.body)


def _was_found(status: int, fields: Mapping[str, Any]) -> bool | None:
    """Whether the charge exists. None: it is the route that the service does not know."""
    if status == 200:
        Charge.model_validate(fields)
        return True
    return False if fields.get("code") == "charge_not_found" else None


def _took_route_for_charge_id(error: InvalidRequest) -> bool:
    """Whether the service read `by-key` as the id of a charge, as one without that route does."""
    return any(field.get("loc") == ["path", "charge_id"] for field in error.fields)


def _is_replay(status: int, fields: Mapping[str, Any]) -> bool:
    return status == 409


def _one_key(idempotency_key: str | None, name: str | None, key_of: Any) -> str:
    if (idempotency_key is None) == (name is None):
        raise TypeError("name what is charged, or give an idempotency_key: one of the two")
    key: str = key_of(name) if idempotency_key is None else idempotency_key
    return key


def _identity(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in IDENTITY if name in fields}


def _quoted(part: str) -> str:
    """One part of a path. Dots too: a part `..` would otherwise climb. Raises InvalidRequest."""
    if not part:
        raise InvalidRequest("An id in the request is empty")
    try:
        return quote(part, safe="").replace(".", "%2E")
    except UnicodeEncodeError as error:
        raise unsendable() from error


def _polls() -> Iterator[float]:
    wait = FIRST_POLL_S
    while True:
        yield wait
        wait = min(LONGEST_POLL_S, wait * 1.5)
