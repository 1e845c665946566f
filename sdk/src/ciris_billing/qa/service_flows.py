"""Test steps for the flows of the integration guide, at the HTTP level."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ciris_billing.models import Charge, CreditStatus, Purchase, PurchaseStatus, ToolCharge
from ciris_billing.qa.steps import Skipped, Suite, Target, equal, expect, has_fields

CHECK = frozenset(CreditStatus.model_fields) - {"assumed"}
CHARGE = frozenset(Charge.model_fields) - {"replayed", "probable_double_of"}
MOST_FREE_USES = 200
suite = Suite("service")
step = suite.step


def _charge(user: dict[str, str], key: str, amount_minor: int = 100) -> dict[str, Any]:
    return {
        **user,
        "amount_minor": amount_minor,
        "currency": "USD",
        "description": "Quality check",
        "idempotency_key": key,
        "metadata": {},
    }


def _uses_left(target: Target, name: str) -> int:
    check = target.ask("POST", "/v1/billing/credits/check", 200, json={**target.user(name), "context": {}}).json()
    left: int = check["free_uses_remaining"] + check["daily_free_uses_remaining"] + check["credits_remaining"]
    return left


@step("Health")
def health(target: Target) -> str:
    found = has_fields(
        target.ask("GET", "/health", 200), frozenset({"service", "version", "status", "database", "timestamp"})
    )
    equal("status", found["status"], "healthy")
    return f"database {found['database']}"


@step("Service and version")
def root(target: Target) -> str:
    found = has_fields(target.ask("GET", "/", 200), frozenset({"service", "status", "version"}))
    equal("status", found["status"], "running")
    return f"{found['service']} {found['version']}"


@step("Calls without a key are refused")
def no_key(target: Target) -> None:
    answer = target.ask(
        "POST", "/v1/billing/credits/check", 401, json=target.user("nobody"), headers={"X-API-Key": "cbk_test_wrong"}
    )
    expect("WWW-Authenticate" in answer.headers, "401 without WWW-Authenticate")
    has_fields(answer, frozenset({"detail", "code", "request_id"}))


@step("Credit check of a new user")
def new_user(target: Target) -> str:
    body = {**target.user("free"), "context": {"agent_id": "qa", "channel_id": "qa:1", "request_id": "qa"}}
    found = has_fields(target.ask("POST", "/v1/billing/credits/check", 200, json=body), CHECK)
    free = found["free_uses_remaining"] + found["daily_free_uses_remaining"]
    equal("has_credit", found["has_credit"], free > 0)
    equal("total_uses", found["total_uses"], 0)
    target.facts["free"] = free
    return f"{free} free uses, plan {found['plan_name']}"


@step("The short path of the check gives the same answer")
def alias(target: Target) -> None:
    user = target.user("free")
    long = target.ask("POST", "/v1/billing/credits/check", 200, json=user).json()
    equal("the answer", target.ask("POST", "/v1/billing/check", 200, json=user).json(), long)


@step("A charge takes one use")
def charge(target: Target) -> None:
    _need_free_uses(target)
    found = has_fields(
        target.ask("POST", "/v1/billing/charges", 201, json=_charge(target.user("free"), "qa-1")), CHARGE
    )
    equal("amount_minor", found["amount_minor"], 100)
    equal("uses left", _uses_left(target, "free"), target.facts["free"] - 1)
    target.facts["charge"] = found


@step("The same charge again costs nothing")
def replay(target: Target) -> None:
    first = target.known("charge")
    answer = target.ask("POST", "/v1/billing/charges", 409, json=_charge(target.user("free"), "qa-1"))
    equal("X-Existing-Charge-ID", answer.headers.get("X-Existing-Charge-ID"), first["charge_id"])
    equal("the charge it repeats", {name: answer.json().get(name) for name in CHARGE}, first)
    equal("uses left", _uses_left(target, "free"), target.facts["free"] - 1)


@step("Its key for another amount is refused")
def reused_key(target: Target) -> None:
    target.known("charge")
    answer = target.ask("POST", "/v1/billing/charges", 422, json=_charge(target.user("free"), "qa-1", 200))
    equal("code", answer.json()["code"], "idempotency_key_reused")


@step("The charge can be read")
def read_charge(target: Target) -> None:
    first = target.known("charge")
    equal("the charge", target.ask("GET", f"/v1/billing/charges/{first['charge_id']}", 200).json(), first)
    target.ask("GET", f"/v1/billing/charges/{uuid.uuid4()}", 404)


@step("One of ten concurrent equal charges counts")
def race(target: Target) -> None:
    _need_free_uses(target)
    body = _charge(target.user("race"), "qa-race", 1)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: target.ask("POST", "/v1/billing/charges", (201, 409), json=body), range(10)))
    equal("new charges", sum(answer.status_code == 201 for answer in answers), 1)
    equal("charge ids", len({answer.json()["charge_id"] for answer in answers}), 1)
    equal("uses left", _uses_left(target, "race"), target.facts["free"] - 1)


@step("Charges end with the credit")
def exhaust(target: Target) -> str:
    free = _need_free_uses(target, at_least=0)
    if free > MOST_FREE_USES:
        raise Skipped(f"new users have {free} free uses")
    for number in range(free):
        body = _charge(target.user("poor"), f"qa-{number}")
        target.ask("POST", "/v1/billing/charges", 201, json=body)
    answer = target.ask("POST", "/v1/billing/charges", 402, json=_charge(target.user("poor"), "qa-last"))
    equal("detail", answer.json()["detail"], "Insufficient credits. Balance: 0, Required: 100")
    target.facts["poor"] = True
    return f"after {free}"


@step("The check then offers a purchase")
def offer(target: Target) -> str:
    target.known("poor")
    found = target.ask("POST", "/v1/billing/credits/check", 200, json=target.user("poor")).json()
    equal("has_credit", found["has_credit"], False)
    equal("purchase_required", found["purchase_required"], True)
    expect(bool(found["reason"]), "no reason is given")
    return f"{found['purchase_uses']} uses for {found['purchase_price_minor']} minor units"


@step("Account and transactions agree")
def account(target: Target) -> None:
    first, user = target.known("charge"), target.user("free")
    listed = target.ask("GET", "/v1/billing/transactions", 200, params=user).json()
    equal("transactions", [t["transaction_id"] for t in listed["transactions"]], [first["charge_id"]])
    equal("amount_minor", listed["transactions"][0]["amount_minor"], -100)
    found = target.ask("GET", f"/v1/billing/accounts/{first['account_id']}", 200).json()
    equal("external_id", found["external_id"], user["external_id"])
    equal("total_uses", found["total_uses"], 1)


@step("Invalid requests are refused")
def nonsense(target: Target) -> None:
    user = target.user("free")
    for body in ({}, {**user, "amount_minor": 0}, {**user, "amount_minor": "many"}, _charge(user, "k" * 256)):
        target.ask("POST", "/v1/billing/charges", 422, json=body)
    target.ask("GET", "/v1/billing/transactions", 422, params={**user, "limit": 0})


@step("Tool charges")
def tools(target: Target) -> str:
    user = target.user("tools")
    balances = target.ask("GET", "/v1/tools/balance", 200, params=user).json()["balances"]
    usable = [balance for balance in balances if balance["total_available"] > 0]
    if not usable:
        raise Skipped("no tool has free uses")
    product = usable[0]["product_type"]
    body = {**user, "product_type": product, "idempotency_key": "qa-1", "request_id": "qa"}
    first = has_fields(target.ask("POST", "/v1/tools/charge", 200, json=body), frozenset(ToolCharge.model_fields))
    equal("the replay", target.ask("POST", "/v1/tools/charge", 200, json=body).json(), first)
    left = target.ask("GET", f"/v1/tools/balance/{product}", 200, params=user).json()["total_available"]
    equal("uses left", left, usable[0]["total_available"] - 1)
    return str(product)


@step("Unknown tools are refused")
def unknown_tool(target: Target) -> None:
    answer = target.ask("GET", "/v1/tools/check/qa-no-such-tool", 400, params=target.user("tools"))
    equal("detail", answer.json()["detail"], "Unknown product type: qa-no-such-tool")


@step("Initiate a purchase")
def purchase(target: Target) -> str:
    body = {**target.user("buyer"), "customer_email": "buyer@qa.invalid", "return_url": "https://qa.invalid/done"}
    answer = target.ask("POST", "/v1/billing/purchases", (201, 503), json=body)
    if answer.status_code == 503:
        equal("code", answer.json()["code"], "payments_not_configured")
        raise Skipped("purchases are not configured")
    found = has_fields(answer, frozenset(Purchase.model_fields))
    target.facts["payment_id"] = found["payment_id"]
    return f"{found['uses_purchased']} uses for {found['amount_minor']} minor units of {found['currency']}"


@step("A second click is the same purchase")
def second_click(target: Target) -> None:
    payment_id = target.known("payment_id")
    again = target.ask("POST", "/v1/billing/purchases", 201, json=target.user("buyer")).json()
    equal("payment_id", again["payment_id"], payment_id)


@step("Purchase status")
def purchase_status(target: Target) -> str:
    answer = target.ask("GET", f"/v1/billing/purchases/{target.known('payment_id')}/status", 200)
    found = has_fields(answer, frozenset(PurchaseStatus.model_fields))
    equal("credits_added", found["credits_added"], 0)
    return str(found["status"])


@step("Unknown payments are not found")
def unknown_payment(target: Target) -> None:
    answer = target.ask("GET", "/v1/billing/purchases/pi_qa_no_such_payment/status", (404, 503))
    if answer.status_code == 503:
        raise Skipped("purchases are not configured")


def _need_free_uses(target: Target, at_least: int = 1) -> int:
    free: int = target.known("free")
    if free < at_least:
        raise Skipped("new users have no free uses")
    return free
