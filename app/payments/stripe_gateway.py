"""StripeGateway: every call to Stripe, and the verification of its webhooks."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import httpx
import stripe
import structlog
from pydantic import SecretStr

from app.auth.caller import Environment
from app.circuit_breaker import CircuitBreaker
from app.configuration.service import Configuration
from app.http.external_waits import waiting_for
from app.observability.metrics import STRIPE_REJECTIONS
from app.payments.errors import (
    InvalidSignature,
    PaymentDeclined,
    PaymentNotFound,
    PaymentProviderError,
    PaymentProviderFailed,
    PaymentProviderForbids,
    PaymentProviderRefused,
    PaymentProviderRejects,
    PaymentProviderUnavailable,
    PaymentsNotConfigured,
    RefundRefused,
)
from app.payments.facts import Event, PaymentFacts, Provider
from app.payments.stripe_events import intent_facts, parse_event
from app.payments.stripe_http import TracedHttp
from app.payments.stripe_objects import (
    REQUEST_KEY,
    STRIPE,
    dispute_of,
    read_or_log,
    refund_of,
    stripe_amount,
)
from app.settings import Settings
from app.stripe_keys import StripeKeys

SIGNATURE_TOLERANCE_S = 300
RETRIES = 2
PAGE = 100  # Stripe's maximum
UNANSWERED_CALLS = 3
"""So many in a row open the circuit breaker."""
BREAKER_PAUSE_S = 1.0
REFUSED = (stripe.InvalidRequestError, stripe.AuthenticationError, stripe.PermissionError)
CODES_OF_KEYS = (
    "account_invalid",
    "api_key_expired",
    "livemode_mismatch",
    "platform_api_key_expired",
    "secret_key_required",
    "testmode_charges_only",
)
"""Codes of invalid requests (400) that concern the operator's key or account."""
Answer = TypeVar("Answer")
Operation = Literal["create", "read"]
Trial = Literal["ok", "restricted", "other_mode"]
"""The outcome of trying a key: full rights, the tried rights of a restricted key, or a key of Stripe's other mode."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenedPayment:
    """A purchase's payment at Stripe: a payment intent with the secret that lets a browser pay it, or a hosted page."""

    facts: PaymentFacts
    client_secret: str | None = None
    checkout_url: str | None = None
    """None: the payment is an intent, or its page is closed."""


class StripeGateway:
    """Stripe's API, with one client per environment. Each call is bounded by `stripe_timeout_s`.

    Callers must not hold a transaction open. Every method raises PaymentsNotConfigured without keys,
    PaymentProviderUnavailable when Stripe does not answer, PaymentProviderRefused when it does not accept the keys, and
    PaymentProviderRejects when it finds the request invalid. A circuit breaker opens after UNANSWERED_CALLS calls in a
    row without an answer: then one call at a time is the probe, and the others fail at once. `at` is the time of the
    request; the answer is no older.
    """

    provider: Final[Provider] = STRIPE

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._configuration = configuration
        self._timeout_s = settings.stripe_timeout_s
        self._is_local = settings.stripe_api_base is not None
        self._addresses: Any = {"api": settings.stripe_api_base} if settings.stripe_api_base else {}
        self._http = TracedHttp(timeout=settings.stripe_timeout_s)
        self._clients: dict[Environment, tuple[StripeKeys, stripe.StripeClient]] = {}
        self._breaker = CircuitBreaker(
            failures=UNANSWERED_CALLS, pause_s=BREAKER_PAUSE_S, probe_s=settings.stripe_timeout_s
        )

    def _client(self, secret_key: SecretStr) -> stripe.StripeClient:
        # Retries share the time limit of a call. They also settle a race for one idempotency key (409, "in progress").
        return stripe.StripeClient(
            secret_key.get_secret_value(),
            base_addresses=self._addresses,
            http_client=self._http,
            max_network_retries=RETRIES,
        )

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]  # stripe leaves it untyped

    async def environments(self) -> list[Environment]:
        """Return the environments that have a provider now."""
        return list((await self._configuration.current()).providers)

    async def publishable_key(self, environment: Environment) -> str:
        return (await self._keys_of(environment)).publishable_key

    async def _keys_of(self, environment: Environment) -> StripeKeys:
        keys = (await self._configuration.current()).providers.get(environment)
        if keys is None:
            raise PaymentsNotConfigured
        return keys

    async def client_of(self, environment: Environment) -> stripe.StripeClient:
        """Return the client of the keys in force, for one call. Raises PaymentProviderUnavailable: breaker open."""
        keys = await self._keys_of(environment)
        if not self._breaker.admits(_now_s()):
            raise PaymentProviderUnavailable
        known = self._clients.get(environment)
        if known is not None and known[0] == keys:
            return known[1]
        client = self._client(keys.secret_key)
        self._clients[environment] = (keys, client)
        return client

    async def try_key(self, environment: Environment, secret_key: SecretStr | None) -> Trial:
        """Try a key at Stripe, by default the key in force. Return its rights. Stores and changes nothing.

        Raises PaymentProviderRefused for a key that Stripe does not know, and PaymentProviderForbids for a restricted
        key that cannot read payments and events, which purchases need.
        """
        secret_key = secret_key or (await self._keys_of(environment)).secret_key
        client = self._client(secret_key)
        try:
            balance = await self.answer(client.v1.balance.retrieve_async())
        except PaymentProviderForbids:
            # Purchases do not read the balance. They read payments and events. The key's prefix shows its mode.
            await self.answer(client.v1.payment_intents.list_async({"limit": 1}))
            await self.answer(client.v1.events.list_async({"limit": 1}))
            if self._is_local or secret_key.get_secret_value().startswith(f"rk_{environment}_"):
                return "restricted"
            return "other_mode"
        return "ok" if self._is_local or balance.livemode == (environment == "live") else "other_mode"

    async def ping(self) -> None:
        """List one payment at Stripe, with the keys of live or, without those, of test."""
        environments = await self.environments()
        if not environments:
            raise PaymentsNotConfigured
        client = await self.client_of("live" if "live" in environments else environments[0])
        await self.answer(client.v1.payment_intents.list_async({"limit": 1}))

    async def create_payment_intent(
        self,
        environment: Environment,
        *,
        account_id: UUID,
        purchase_id: UUID,
        attempt: int,
        amount_minor: int,
        currency: str,
        at: datetime,
    ) -> OpenedPayment:
        """Open the purchase's payment.

        For the same attempt within a day, Stripe repeats its answer: the payment, or its own failure
        (PaymentProviderFailed), after which only another attempt can succeed.
        """
        created = await self.answer(
            (await self.client_of(environment)).v1.payment_intents.create_async(
                {
                    "amount": amount_minor,
                    "currency": currency.lower(),
                    "automatic_payment_methods": {"enabled": True},
                    "metadata": {"account_id": str(account_id), "purchase_id": str(purchase_id)},
                },
                {"idempotency_key": attempt_key(purchase_id, attempt)},
            ),
            operation="create",
        )
        return _payment_intent(created, at)

    async def retrieve_payment_intent(
        self, environment: Environment, payment_intent_id: str, *, at: datetime
    ) -> OpenedPayment:
        """Raises PaymentNotFound."""
        service = (await self.client_of(environment)).v1.payment_intents
        return _payment_intent(await self.answer(service.retrieve_async(payment_intent_id)), at)

    async def cancel_payment_intent(
        self, environment: Environment, payment_intent_id: str, *, at: datetime
    ) -> OpenedPayment:
        """Cancel a payment, so that it cannot be paid. Return it as it is when it can no longer be canceled: paid."""
        service = (await self.client_of(environment)).v1.payment_intents
        try:
            return _payment_intent(await self.answer(service.cancel_async(payment_intent_id), operation=None), at)
        except PaymentProviderRejects:
            return await self.retrieve_payment_intent(environment, payment_intent_id, at=at)

    async def refund(
        self,
        environment: Environment,
        payment_intent_id: str,
        amount_minor: int | None,
        *,
        idempotency_key: str,
        request_key: str,
        at: datetime,
    ) -> PaymentFacts:
        """Refund money of a payment. Return the refund and Stripe's total of refunds. Raises RefundRefused.

        The total is absent when Stripe does not answer the second call. Then the webhook brings it.
        """
        client = await self.client_of(environment)
        params: Any = {"payment_intent": payment_intent_id, "metadata": {REQUEST_KEY: request_key}}
        if amount_minor is not None:
            params["amount"] = amount_minor
        try:
            created = client.v1.refunds.create_async(params, {"idempotency_key": idempotency_key})
            refund = await self.answer(created, operation=None)
        except PaymentProviderRejects as error:
            raise RefundRefused(error.reason) from error
        total = None
        with contextlib.suppress(PaymentProviderError, PaymentNotFound):
            charge = await self.answer(client.v1.charges.retrieve_async(str(refund.charge)))
            total = stripe_amount(charge.amount_refunded)
        made = read_or_log(refund_of, refund.to_dict())
        refunds = () if made is None else (made,)
        return PaymentFacts(self.provider, payment_intent_id, at, refunded_minor=total, refunds=refunds)

    async def succeeded_since(
        self, environment: Environment, since: datetime, *, at: datetime
    ) -> AsyncIterator[PaymentFacts]:
        """Yield the succeeded payments of those created since."""
        params: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        page = await self.answer((await self.client_of(environment)).v1.payment_intents.list_async(params))
        async for intent in self.each(page):
            facts = read_or_log(partial(intent_facts, at=at), intent.to_dict())
            if facts is not None and facts.received_minor is not None:
                yield facts

    async def refunds_since(
        self, environment: Environment, since: datetime, *, at: datetime
    ) -> AsyncIterator[PaymentFacts]:
        """Yield the refunds created since, in their present state."""
        params: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        page = await self.answer((await self.client_of(environment)).v1.refunds.list_async(params))
        async for found in self.each(page):
            refund = read_or_log(refund_of, found.to_dict()) if found.payment_intent is not None else None
            if refund is not None:
                yield PaymentFacts(self.provider, str(found.payment_intent), at, refunds=(refund,))

    async def money_back(
        self, environment: Environment, payment_intent_id: str, *, at: datetime
    ) -> AsyncIterator[PaymentFacts]:
        """Yield the refunds and disputes of one payment, in their present state."""
        service = (await self.client_of(environment)).v1
        params: Any = {"payment_intent": payment_intent_id, "limit": 100}
        async for found in self.each(await self.answer(service.refunds.list_async(params))):
            if (refund := read_or_log(refund_of, found.to_dict())) is not None:
                yield PaymentFacts(self.provider, payment_intent_id, at, refunds=(refund,))
        async for found in self.each(await self.answer(service.disputes.list_async(params))):
            if (dispute := read_or_log(partial(dispute_of, ""), found.to_dict())) is not None:
                yield PaymentFacts(self.provider, payment_intent_id, at, dispute=dispute)

    async def events_between(
        self, environment: Environment, types: Collection[str], since: datetime, until: datetime, if_few: bool = False
    ) -> list[Event] | None:
        """Return the entries of Stripe's event log, oldest first; with `if_few`, None instead of more than one page."""
        created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        params: Any = {"created": created, "types": list(types), "limit": PAGE}
        page = await self.answer((await self.client_of(environment)).v1.events.list_async(params))
        if if_few and page.has_more:
            return None
        events = [parse_event(event.to_dict()) async for event in self.each(page)]
        return [self._of_environment(environment, event) for event in reversed(events)]

    async def verify_webhook(self, payload: bytes, signature: str | None) -> tuple[Environment, Event]:
        """Return the event and the environment whose secret signed it. Raises InvalidSignature.

        A live endpoint of Stripe can also receive events of its test mode. They do not concern this environment.
        """
        for environment, keys in (await self._configuration.current()).providers.items():
            secret = keys.webhook_secret.get_secret_value()
            try:
                stripe.WebhookSignature.verify_header(
                    payload.decode(), signature or "", secret, tolerance=SIGNATURE_TOLERANCE_S
                )
                _refuse_future(signature or "")
                return environment, self._of_environment(environment, parse_event(json.loads(payload)))
            except (stripe.SignatureVerificationError, ValueError, TypeError):
                continue  # TypeError: a signature that is not ASCII
        raise InvalidSignature

    def _of_environment(self, environment: Environment, event: Event) -> Event:
        """Return the event, without facts if it is of Stripe's other mode. The local Stripe has one mode only."""
        if self._is_local or event.livemode == (environment == "live"):
            return event
        log.error("stripe_event_of_other_mode", event_id=event.event_id, environment=environment)
        return replace(event, facts=None, setup=None)

    async def answer(self, call: Awaitable[Answer], *, operation: Operation | None = "read") -> Answer:
        """Await a call within the time limit, and raise Stripe's errors as ours.

        The SDK's own time-out applies to each part of a call, not to the whole. A rejection of `operation` alerts the
        operator. None: the caller expects rejections.
        """
        with waiting_for(PaymentProviderUnavailable()):
            return await self._answer(call, operation)

    async def _answer(self, call: Awaitable[Answer], operation: Operation | None) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call
        except REFUSED as error:
            self._breaker.answered()
            if error.http_status == 404:
                raise PaymentNotFound from error
            if error.http_status == 400 and error.code not in CODES_OF_KEYS:
                raise self._rejection(error, operation) from error
            log.error("stripe_refused", code=error.code, status=error.http_status, exc_info=error)
            raise (PaymentProviderForbids if error.http_status == 403 else PaymentProviderRefused) from error
        except stripe.CardError as error:
            self._breaker.answered()
            raise PaymentDeclined(error.code) from error
        except stripe.IdempotencyError as error:
            self._breaker.answered()
            # 400: the key was used for another request. 409: the same request was in progress, during all retries.
            if error.http_status == 400:
                raise self._rejection(error, operation) from error
            raise PaymentProviderUnavailable from error
        except (stripe.StripeError, httpx.HTTPError, TimeoutError) as error:
            status = getattr(error, "http_status", None)
            if status is None:
                self._breaker.unanswered(_now_s())
            else:
                self._breaker.answered()
            log.warning("stripe_unavailable", error=type(error).__name__, status=status)
            raise (PaymentProviderFailed if (status or 0) >= 500 else PaymentProviderUnavailable) from error
        self._breaker.answered()
        return answer

    def _rejection(self, error: stripe.StripeError, operation: Operation | None) -> PaymentProviderRejects:
        param = getattr(error, "param", None)
        if operation is None:
            log.info("stripe_rejected", code=error.code, param=param)
        else:
            STRIPE_REJECTIONS.labels(operation).inc()
            log.error("stripe_rejected", operation=operation, code=error.code, param=param)
        return PaymentProviderRejects(error.code)

    async def each(self, page: Any) -> AsyncIterator[Any]:
        """Yield every object of a paged list. A failure of a later page raises the same errors as the first."""
        pages = page.auto_paging_iter().__aiter__()
        while True:
            try:
                item = await self.answer(pages.__anext__())
            except StopAsyncIteration:
                return
            yield item


def attempt_key(purchase_id: UUID, attempt: int) -> str:
    """Return the idempotency key of an attempt to open a purchase's payment."""
    return str(purchase_id) if attempt == 1 else f"{purchase_id}:{attempt}"


def _refuse_future(signature: str) -> None:
    """Raise ValueError for a signature whose time is too far ahead: the SDK bounds only its age."""
    [signed_s, *_] = [part[2:] for part in signature.split(",") if part.startswith("t=")]
    if int(signed_s) > time.time() + SIGNATURE_TOLERANCE_S:
        raise ValueError("signed in the future")


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _payment_intent(intent: Any, at: datetime) -> OpenedPayment:
    data = intent.to_dict()
    return OpenedPayment(intent_facts(data, at=at), client_secret=data.get("client_secret"))
