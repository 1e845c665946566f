"""HTTP layer of the local Stripe: paths, form bodies, errors and idempotency."""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response

from app.demo.stripe import billing_control, billing_time, checkout_page, control, page, portal_page, routes, state
from app.demo.stripe.account import Account, AccountConfig, Remembered
from app.demo.stripe.control import Failure
from app.demo.stripe.followers import FOLLOWERS
from app.demo.stripe.forms import parse_form
from app.demo.stripe.lists import expanded
from app.demo.stripe.objects import SIMULATED_S, Object, StripeError, real_now_s
from app.demo.stripe.webhooks import Deliverer

log = logging.getLogger(__name__)
Call = Callable[[Account, Object], Object]
RETRY_SCHEDULE_S = (0.3, 0.6, 1, 2, 4, 8, 15, 30)
REFUNDS_SETTLE_AFTER_S = 5.0
TICK_S = 1.0


class LocalStripe:
    """All accounts of this server, by secret key, and the configured failures."""

    def __init__(
        self,
        accounts: Mapping[str, AccountConfig],
        retry_schedule_s: Sequence[float],
        refunds_settle_after_s: float = REFUNDS_SETTLE_AFTER_S,
    ) -> None:
        self.changed = asyncio.Event()
        """Set if there are changes to save."""
        self.deliverer = Deliverer(retry_schedule_s, self.changed.set)
        followers = (*FOLLOWERS, self._follow_refund)
        self.accounts = {key: Account(config, self.deliverer.publish, followers) for key, config in accounts.items()}
        self.failures: list[Failure] = []
        self._refunds_settle_after_s = refunds_settle_after_s

    def settle_later(self, account: Account, refund: Object) -> None:
        """Schedule the outcome that its test card gives a refund."""

        def settle() -> None:
            if (outcome := account.later_outcome(refund)) is not None:
                account.settle_refund(refund, outcome)

        if account.later_outcome(refund) is not None:
            asyncio.get_running_loop().call_later(self._refunds_settle_after_s, settle)

    async def let_time_pass(self) -> None:
        """Renew the subscriptions of customers without a test clock as real time passes."""
        while True:
            await asyncio.sleep(TICK_S)
            for account in self.accounts.values():
                try:
                    billing_time.run_due(account, None, real_now_s())
                except Exception:
                    log.exception("a subscription could not be renewed")

    def _follow_refund(self, account: Account, event: str, refund: Object) -> None:
        if event == "refund.created":
            self.settle_later(account, refund)

    def account(self, request: Request, form: Mapping[str, Any]) -> Account:
        """Return the account, by the secret key; by the restricted key (`rk_` instead of `sk_`), which cannot read the
        balance but do all else; or by the publishable key and a payment's client secret, as from a browser."""
        kind, _, sent = request.headers.get("authorization", "").partition(" ")
        key = base64.b64decode(sent).decode(errors="replace").rstrip(":") if kind.lower() == "basic" else sent
        key = key or str(form.get("key", ""))
        if key.startswith("rk_") and (unrestricted := f"s{key[1:]}") in self.accounts:
            if request.url.path == "/v1/balance":
                raise StripeError(403, "invalid_request_error", "The provided key may not read the balance")
            key = unrestricted
        if key in self.accounts:
            return self.accounts[key]
        browsers_may = request.method == "GET" or request.url.path.endswith("/confirm")
        for account in self.accounts.values():
            if browsers_may and key == account.config.publishable_key and form.get("client_secret"):
                kind = "setup_intent" if request.url.path.startswith(routes.SETUPS) else "payment_intent"
                intent = account.objects[kind].get(request.path_params.get("object_id", ""))
                if intent is not None and intent["client_secret"] == form["client_secret"]:
                    return account
        raise StripeError(401, "invalid_request_error", "Invalid API Key provided")

    def failure_of(self, request: Request) -> Failure | None:
        for failure in self.failures:
            if failure.times > 0 and failure.method == request.method and request.url.path.startswith(failure.path):
                failure.times -= 1
                return failure
        return None

    def endpoint(self, call: routes.Call) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            object_id = str(request.path_params.get("object_id", ""))
            return await self.answer(request, lambda account, form: call(account, form, object_id))

        return answer

    async def answer(self, request: Request, call: Call) -> Response:
        body_text = (await request.body()).decode("latin-1") if request.method == "POST" else request.url.query
        failure = self.failure_of(request)
        holding_s = failure.hold_s if failure is not None else 0
        if failure is not None and not failure.after and not holding_s:
            answer = await failure.answer()
            if (failure.status or 0) >= 500:
                self._remember_failure(request, body_text, failure)
            return answer
        status, body, replayed = await self._once(request, body_text, call, holding_s)
        if failure is not None and not holding_s:
            return await failure.answer()
        headers = {"Request-Id": "req_local", **({"Idempotent-Replayed": "true"} if replayed else {})}
        return JSONResponse(body, status, headers)

    async def _once(self, request: Request, body_text: str, call: Call, holding_s: float) -> tuple[int, Object, bool]:
        """Execute a call once per idempotency key. `holding_s`: delay before the execution, with the key in use."""
        try:
            form = parse_form(body_text)
            account = self.account(request, form)
            account.base_url = str(request.base_url).rstrip("/")
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST":
                await asyncio.sleep(holding_s)
                return 200, expanded(account, call(account, form), form), False
            fingerprint = fingerprint_of(request, form)
            known = account.remembered.get(key)
            if known is not None:
                return self._replay(known, fingerprint)
            remembered = account.remembered[key] = Remembered(fingerprint)
            try:
                await asyncio.sleep(holding_s)  # the first request is under way: an equal one gets a conflict
                remembered.answer = (200, expanded(account, call(account, form), form))
            except StripeError as error:
                if error.status != 402:
                    raise
                remembered.answer = (402, {"error": error.error})
            finally:
                if remembered.answer is None:  # an unexecuted request is not stored
                    account.remembered.pop(key, None)
            return *remembered.answer, False
        except StripeError as error:
            return error.status, {"error": error.error}, False

    def _remember_failure(self, request: Request, body_text: str, failure: Failure) -> None:
        """Store a failure under the idempotency key, as Stripe does: a retry gets the same answer."""
        form = parse_form(body_text)
        key = request.headers.get("idempotency-key")
        if key is not None and failure.status is not None:
            remembered = self.account(request, form).remembered
            remembered.setdefault(key, Remembered(fingerprint_of(request, form), (failure.status, failure.body())))

    def _replay(self, known: Remembered, fingerprint: str) -> tuple[int, Object, bool]:
        if known.fingerprint != fingerprint:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            raise StripeError(400, "idempotency_error", message)
        if known.answer is None:
            message = "There is currently another in-progress request using this Idempotent Key."
            raise StripeError(409, "idempotency_error", message, code="idempotency_key_in_use")
        return *known.answer, True


def fingerprint_of(request: Request, form: Object) -> str:
    """Return a digest of the parameters, which must be equal to reuse an idempotency key."""
    return hashlib.sha256(f"{request.url.path} {json.dumps(form, sort_keys=True)}".encode()).hexdigest()


async def tell_time(local_stripe_time: Annotated[int | None, Header()] = None) -> None:
    """Read `Local-Stripe-Time`, the simulated time of the request in seconds."""
    SIMULATED_S.set(local_stripe_time)


async def note_changes(request: Request) -> AsyncIterator[None]:
    """Schedule saving after every request that can change the state."""
    try:
        yield
    finally:
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            request.app.state.local.changed.set()


def create_app(
    *,
    accounts: Mapping[str, AccountConfig],
    state_path: Path | None = None,
    retry_schedule_s: Sequence[float] = RETRY_SCHEDULE_S,
    refunds_settle_after_s: float = REFUNDS_SETTLE_AFTER_S,
    save_after_s: float = 1,
) -> FastAPI:
    """Create a server for these accounts, by secret key.

    With `state_path`, the state survives a restart, except for the last `save_after_s` before a crash.
    """
    local = LocalStripe(accounts, retry_schedule_s, refunds_settle_after_s)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.load(local, state_path)
        delivering = asyncio.create_task(local.deliverer.run())
        saving = asyncio.create_task(state.save_changes(local, state_path, save_after_s))
        renewing = asyncio.create_task(local.let_time_pass())
        yield
        for task in (delivering, saving, renewing):
            task.cancel()
        await local.deliverer.close()
        state.save(local, state_path)

    app = FastAPI(
        title="Local Stripe",
        lifespan=lifespan,
        dependencies=[Depends(tell_time), Depends(note_changes)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.local = local
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])

    @app.exception_handler(StripeError)
    async def refused(request: Request, error: StripeError) -> Response:
        """Answer an error of a control route."""
        return JSONResponse({"error": error.error}, error.status)

    app.include_router(control.router)
    app.include_router(billing_control.router)
    app.include_router(portal_page.router)
    app.include_router(page.router)
    app.include_router(checkout_page.router)

    for method, path, call in routes.ROUTES:
        app.add_api_route(path, local.endpoint(call), methods=[method], response_model=None)

    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "DELETE"], response_model=None)
    async def unrecognized(request: Request) -> Response:
        message = f"Unrecognized request URL ({request.method}: {request.url.path})."
        return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, 404)

    return app
