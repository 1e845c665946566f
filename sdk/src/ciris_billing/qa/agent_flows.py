"""Test steps for the billing routes of an agent's own API."""

from ciris_billing.qa.steps import Skipped, Suite, Target, equal, expect, has_fields

CREDITS = frozenset(
    {
        "has_credit",
        "credits_remaining",
        "free_uses_remaining",
        "total_uses",
        "plan_name",
        "purchase_required",
        "purchase_options",
    }
)
PURCHASE = frozenset({"payment_id", "client_secret", "amount_minor", "currency", "uses_purchased", "publishable_key"})
suite = Suite("agent")
step = suite.step


@step("Get Credit Status")
def credit_status(target: Target) -> str:
    found = has_fields(target.ask("GET", "/v1/api/billing/credits", 200), CREDITS)
    target.facts["credits"] = found
    return f"{found['credits_remaining']} credits, {found['free_uses_remaining']} free uses"


@step("Check Credit Balance Display")
def display(target: Target) -> None:
    found = target.known("credits")
    for name in ("credits_remaining", "free_uses_remaining", "total_uses"):
        expect(type(found[name]) is int and found[name] >= 0, f"{name} is {found[name]!r}")
    left = found["credits_remaining"] + found["free_uses_remaining"]
    expect(not found["has_credit"] or left > 0, "has_credit, but nothing is left")


@step("Check Purchase Options")
def purchase_options(target: Target) -> str:
    found = target.known("credits")
    options = found["purchase_options"]
    equal("whether options are given", options is not None, found["purchase_required"])
    if options is None:
        return "none needed"
    equal("fields", set(options), {"price_minor", "uses", "currency"})
    return f"{options['uses']} uses for {options['price_minor']} minor units of {options['currency']}"


@step("Signed-out users are refused")
def signed_out(target: Target) -> None:
    request = target.http.build_request("GET", "/v1/api/billing/credits")
    del request.headers["Authorization"]
    answer = target.http.send(request)
    equal("status", answer.status_code, 401)
    expect(isinstance(answer.json().get("detail"), str), "401 without a detail")


@step("Initiate Purchase")
def initiate(target: Target) -> str:
    body = {"return_url": "https://qa.invalid/done"}
    answer = target.ask("POST", "/v1/api/billing/purchase/initiate", (200, 403), json=body)
    if answer.status_code == 403:
        equal("detail", answer.json()["detail"], "Billing not enabled for this agent")
        raise Skipped("billing is not enabled for this agent")
    found = has_fields(answer, PURCHASE)
    target.facts["payment_id"] = found["payment_id"]
    return f"{found['uses_purchased']} uses for {found['amount_minor']} minor units of {found['currency']}"


@step("Check Purchase Status")
def purchase_status(target: Target) -> str:
    answer = target.ask("GET", f"/v1/api/billing/purchase/status/{target.known('payment_id')}", 200)
    return str(has_fields(answer, frozenset({"status", "credits_added", "balance_after"}))["status"])


@step("Unknown payments are not found")
def unknown_payment(target: Target) -> None:
    target.known("payment_id")
    answer = target.ask("GET", "/v1/api/billing/purchase/status/pi_qa_no_such_payment", 404)
    equal("detail", answer.json()["detail"], "Payment not found")
