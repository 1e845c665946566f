"""HTTP layer of the local Stripe: paths, form bodies, errors and idempotency."""

import asyncio
import base64
import contextlib
import hashlib
import json
import operator
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, Header, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response

from app.demo.stripe import control, page, state
from app.demo.stripe.account import (
    CARDS,
    SIMULATED_S,
    VOUCHERS,
    Account,
    AccountConfig,
    Object,
    Remembered,
    StripeError,
    invalid,
    is_accepted_card,
)
from app.demo.stripe.control import Failure
from app.demo.stripe.webhooks import Deliverer

Call = Callable[[Account, Object], Object]
RETRY_SCHEDULE_S = (0.3, 0.6, 1, 2, 4, 8, 15, 30)
REFUNDS_SETTLE_AFTER_S = 5.0
MAX_PAGE = 100
MAX_FIELDS = 1000
HASHES = frozenset(
    {"automatic_payment_methods", "created", "metadata", "payment_method_data", "payment_method_options", "shipping"}
)
LISTS = frozenset({"expand", "payment_method_types", "types"})


def parse_form(body: str) -> Object:
    """Parse Stripe's nested forms: `metadata[a]=b`, `types[]=c`, `expand[0]=d`."""
    parsed: Object = {}
    try:
        for name, value in parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"):
            head, *rest = name.replace("]", "").split("[")
            if not rest:
                parsed[head] = value
            elif rest[0] == "" or rest[0].isdigit():
                parsed.setdefault(head, []).append(value)
            else:
                inside = parsed.setdefault(head, {})
                for part in rest[:-1]:
                    inside = inside.setdefault(part, {})
                inside[rest[-1]] = value
    except (ValueError, AttributeError, TypeError):  # not UTF-8, too many, or one name as string and hash
        raise invalid("The parameters cannot be read.", "") from None
    for name, value in parsed.items():
        expected = dict if name in HASHES else list if name in LISTS else str
        if not isinstance(value, expected) and not (name == "created" and isinstance(value, str)):
            raise invalid(f"Invalid {'string' if expected is str else 'hash or array'}: {name}", name)
    return parsed


def whole(form: Mapping[str, Any], name: str) -> int | None:
    if name not in form:
        return None
    return as_whole(form[name], name)


def as_whole(text: object, name: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", str(text)):
        raise invalid(f"Invalid integer: {text}", name)
    return int(str(text))


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
        self.accounts = {key: Account(config, self.deliverer.publish) for key, config in accounts.items()}
        self.failures: list[Failure] = []
        self._refunds_settle_after_s = refunds_settle_after_s

    def settle_later(self, account: Account, refund: Object) -> Object:
        """Return the refund, and schedule the outcome that its test card gives it."""

        def settle() -> None:
            if (outcome := account.later_outcome(refund)) is not None:
                account.settle_refund(refund, outcome)

        if account.later_outcome(refund) is not None:
            asyncio.get_running_loop().call_later(self._refunds_settle_after_s, settle)
        return refund

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
                intent = account.objects["payment_intent"].get(request.path_params.get("object_id", ""))
                if intent is not None and intent["client_secret"] == form["client_secret"]:
                    return account
        raise StripeError(401, "invalid_request_error", "Invalid API Key provided")

    def failure_of(self, request: Request) -> Failure | None:
        for failure in self.failures:
            if failure.times > 0 and failure.method == request.method and request.url.path.startswith(failure.path):
                failure.times -= 1
                return failure
        return None

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


def expanded(account: Account, answer: Object, form: Mapping[str, Any]) -> Object:
    """Return the answer with `expand[]=latest_charge` and the like replaced by the objects themselves."""
    answer = json.loads(json.dumps(answer))
    kinds = {"latest_charge": "charge", "charge": "charge", "payment_intent": "payment_intent"}
    for path in form.get("expand", []):
        name = path.removeprefix("data.")
        for target in answer["data"] if path.startswith("data.") else [answer]:
            if isinstance(target.get(name), str) and name in kinds:
                target[name] = account.find(kinds[name], target[name])
    return answer


def listing(kind: str, path: str) -> Call:
    """Return a call that lists objects, newest first, with keyset pagination."""

    def call(account: Account, form: Object) -> Object:
        items = list(account.objects[kind].values())[::-1]
        for name in ("payment_intent", "charge", "type"):
            if name in form:
                items = [item for item in items if item.get(name) == form[name]]
        if "types" in form:
            items = [item for item in items if item["type"] in form["types"]]
        items = created_within(items, form.get("created", {}))
        limit = 10 if "limit" not in form else whole(form, "limit") or 0
        if not 1 <= limit <= MAX_PAGE:
            raise invalid("Invalid limit", "limit")
        ids = [item["id"] for item in items]
        for name in ("starting_after", "ending_before"):
            if name in form and form[name] not in ids:
                raise invalid(f"No such {kind}: '{form[name]}'", name, "resource_missing")
        if "starting_after" in form:
            items = items[ids.index(form["starting_after"]) + 1 :]
        if "ending_before" in form:
            newer = items[: ids.index(form["ending_before"])]
            return {"object": "list", "url": path, "data": newer[-limit:], "has_more": len(newer) > limit}
        return {"object": "list", "url": path, "data": items[:limit], "has_more": len(items) > limit}

    return call


def created_within(items: list[Object], bounds: object) -> list[Object]:
    """Filter by `created`: one second, or bounds by gt, gte, lt and lte."""
    if not isinstance(bounds, dict):
        bounds = {"gte": bounds, "lte": bounds}
    tests = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
    for name, text in bounds.items():
        if name not in tests:
            raise invalid(f"Received unknown parameter: created[{name}]", "created", "parameter_unknown")
        second = as_whole(text, f"created[{name}]")
        items = [item for item in items if tests[name](item["created"], second)]
    return items


def create_intent(account: Account, form: Object) -> Object:
    amount = whole(form, "amount")
    if amount is None:
        raise invalid("Missing required param: amount.", "amount", "parameter_missing")
    if not form.get("currency"):
        raise invalid("Missing required param: currency.", "currency", "parameter_missing")
    return account.create_intent(amount, form["currency"].lower(), form.get("metadata", {}), form.get("receipt_email"))


def card_of(form: Object) -> str:
    """The number of the card that the form pays with, or the name of another way to pay (VOUCHERS)."""
    method = form.get("payment_method")
    other = method or f"pm_{form.get('payment_method_data', {}).get('type')}"
    if other in VOUCHERS:
        return str(other)
    sent = form.get("payment_method_data", {}).get("card", {})
    number = sent.get("number") if isinstance(sent, dict) else None
    card = CARDS.get(method, "") if method else str(number or "").replace(" ", "")
    if not is_accepted_card(card):
        raise StripeError(400, "invalid_request_error", "No such PaymentMethod", param="payment_method")
    return card


def create_refund(account: Account, form: Object) -> Object:
    if form.get("charge"):
        charge = account.find("charge", form["charge"])
    elif form.get("payment_intent"):
        charge = account.charge_of(form["payment_intent"])
    else:
        raise invalid("One of charge or payment_intent is required.", "charge", "parameter_missing")
    return account.refund(charge, whole(form, "amount"), form.get("reason"), metadata=form.get("metadata"))


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
        yield
        for task in (delivering, saving):
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
    app.include_router(page.router)

    def route(method: str, path: str, call: Callable[[Account, Object, str], Object]) -> None:
        async def endpoint(request: Request) -> Response:
            object_id = str(request.path_params.get("object_id", ""))
            return await local.answer(request, lambda account, form: call(account, form, object_id))

        app.add_api_route(path, endpoint, methods=[method], response_model=None)

    route("POST", "/v1/payment_intents", lambda a, form, _: create_intent(a, form))
    route("POST", "/v1/refunds", lambda a, form, _: local.settle_later(a, create_refund(a, form)))
    route(
        "POST",
        "/v1/payment_intents/{object_id}/confirm",
        lambda a, form, i: a.confirm(a.find("payment_intent", i), card_of(form)),
    )
    route("POST", "/v1/payment_intents/{object_id}/cancel", lambda a, _, i: a.cancel(a.find("payment_intent", i)))
    route("POST", "/v1/disputes/{object_id}/close", lambda a, _, i: a.close_dispute(a.find("dispute", i), "lost"))
    route("POST", "/v1/refunds/{object_id}/cancel", lambda a, _, i: a.cancel_refund(a.find("refund", i)))
    route("GET", "/v1/balance", lambda a, _, __: a.balance())
    for kind in ("payment_intent", "charge", "refund", "dispute", "event"):
        path = f"/v1/{kind}s"
        route("GET", path, lambda a, form, _, kind=kind, path=path: listing(kind, path)(a, form))  # type: ignore[misc]  # bound per loop
        route("GET", f"{path}/{{object_id}}", lambda a, _, i, kind=kind: a.find(kind, i))  # type: ignore[misc]  # bound per loop

    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "DELETE"], response_model=None)
    async def unrecognized(request: Request) -> Response:
        message = f"Unrecognized request URL ({request.method}: {request.url.path})."
        return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, 404)

    return app
