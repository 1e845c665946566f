"""The SDK's models and the service's description have the same fields and types, so that they cannot drift apart."""

import inspect
import json
import uuid
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from ciris_billing import cost_records, holds, limits, models, payments, remedies, runs, subscriptions, usage
from ciris_billing._operations import Operations
from ciris_billing.charges import NewCharge
from ciris_billing.cost_records import CostRecordItem, CostRecordOpening, OpeningFields
from ciris_billing.holds import HoldFields, HoldOpening
from ciris_billing.models import CheckContext, Metadata, User, UserFields
from ciris_billing.runs import RunFields, RunOpening
from ciris_billing.usage import UsageEvent
from tests.databases import ROOT

API: dict[str, Any] = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
HOLDS, RUNS, REFILL = "/v1/billing/holds", "/v1/billing/runs", "/v1/credits/auto-refill"
CHARGE = "post /v1/billing/charges 201"
DESCRIBED: dict[type[BaseModel], str] = {
    models.CreditStatus: "post /v1/billing/credits/check 200",
    models.Charge: CHARGE,
    models.ChargeMetadata: f"{CHARGE} metadata",
    models.Credit: "post /v1/billing/credits 201",
    models.Account: "get /v1/billing/accounts/{account_id} 200",
    models.TransactionPage: "get /v1/billing/transactions 200",
    models.Transaction: "get /v1/billing/transactions 200 transactions",
    models.Currencies: "get /v1/billing/currencies 200",
    models.Currency: "get /v1/billing/currencies 200 currencies",
    models.Packs: "get /v1/billing/packs 200",
    models.Pack: "get /v1/billing/packs 200 packs",
    models.Purchase: "post /v1/billing/purchases 201",
    models.PurchaseStatus: "get /v1/billing/purchases/{payment_id}/status 200",
    models.ToolBalance: "get /v1/tools/balance/{product_type} 200",
    models.ToolBalances: "get /v1/tools/balance 200",
    models.ToolCheck: "get /v1/tools/check/{product_type} 200",
    models.ToolCharge: "post /v1/tools/charge 200",
    models.LlmUsageLogged: "post /v1/billing/litellm/usage 201",
    models.Health: "get /health 200",
    usage.UsageRecorded: "post /v1/usage 200",
    usage.UsageBatch: "post /v1/usage/batch 200",
    usage.UsageItem: "post /v1/usage/batch 200 results",
    usage.UsageCheck: "post /v1/usage/check 200",
    usage.Quote: "post /v1/usage/quote 200",
    usage.QuoteLine: "post /v1/usage/quote 200 lines",
    cost_records.CostRecord: "post /v1/cost-records 201",
    cost_records.CostRecordDetail: "get /v1/cost-records/{record_id} 200",
    cost_records.ItemAdded: "post /v1/cost-records/{record_id}/items 201",
    cost_records.RecordedItem: "post /v1/cost-records/{record_id}/items 201 item",
    holds.Hold: "post /v1/billing/holds 201",
    limits.SpendingLimits: "get /v1/billing/limits 200",
    limits.SpendingLimit: "put /v1/billing/limits 200",
    runs.Run: f"post {RUNS} 201",
    runs.Amounts: f"post {RUNS} 201 spent",
    runs.RunPage: f"get {RUNS} 200",
    runs.RunReceipt: f"get {RUNS}/{{run_id}} 200",
    runs.RunCalls: f"get {RUNS}/{{run_id}} 200 calls",
    subscriptions.Plans: "get /v1/plans 200",
    subscriptions.Plan: "get /v1/plans 200 plans",
    subscriptions.PlanPrice: "get /v1/plans 200 plans prices",
    subscriptions.PlanGrant: "get /v1/plans 200 plans grants",
    subscriptions.SubscriptionPage: "post /v1/subscriptions/checkout 200",
    subscriptions.PortalPage: "post /v1/subscriptions/portal 200",
    subscriptions.Subscription: "get /v1/subscriptions/me 200",
    subscriptions.SubscriptionChange: "post /v1/subscriptions/change 200",
    payments.MoneyPage: "post /v1/credits/purchase 200",
    payments.PaymentPage: "get /v1/payments 200",
    payments.Payment: "get /v1/payments 200 payments",
    payments.AutoRefillReply: f"get {REFILL} 200",
    payments.AutoRefill: f"post {REFILL} 200 auto_refill",
    payments.SavedCards: "get /v1/credits/cards 200",
    payments.SavedCard: "put /v1/credits/cards/{card_id}/primary 200",
    payments.CardPage: "post /v1/credits/cards 200",
    payments.CardRemoved: "delete /v1/credits/cards/{card_id} 200",
    payments.OneTimeGrant: "post /v1/credits/signup-grant 200",
    payments.ReferralGrant: "post /v1/credits/referral-grant 200",
}
REMEDIES: dict[str, type[BaseModel]] = {
    "SmallerAmount": remedies.SmallerAmount,
    "CheaperModel": remedies.CheaperModel,
    "Wait": remedies.Wait,
    "RequestApproval": remedies.RequestApproval,
    "Purchase": remedies.PurchaseOffer,
}
"""By the name of the service's type."""
OF_THE_CLIENT = {"assumed", "replayed", "probable_double_of"}
REQUESTS = {
    "check_credit": "post /v1/billing/credits/check",
    "charge": "post /v1/billing/charges",
    "add_credits": "post /v1/billing/credits",
    "get_or_create_account": "post /v1/billing/accounts",
    "create_purchase": "post /v1/billing/purchases",
    "tool_charge": "post /v1/tools/charge",
    "report_llm_usage": "post /v1/billing/litellm/usage",
    "set_limit": "put /v1/billing/limits",
    "subscribe": "post /v1/subscriptions/checkout",
    "change_subscription": "post /v1/subscriptions/change",
    "subscription_portal": "post /v1/subscriptions/portal",
    "buy_money": "post /v1/credits/purchase",
    "set_auto_refill": f"post {REFILL}",
    "save_card": "post /v1/credits/cards",
    "signup_grant": "post /v1/credits/signup-grant",
    "daily_grant": "post /v1/credits/daily-grant",
}
NAMES_A_KEY = {"charge": {"interaction_id"}, "tool_charge": {"call_id"}}
"""Arguments from which only the idempotency key is derived."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its fields, where a reference to it, an array of it, or it or null was given."""
    for option in (schema, schema.get("items", {}), *schema.get("anyOf", [])):
        if "$ref" in option:
            found: dict[str, Any] = API["components"]["schemas"][option["$ref"].rpartition("/")[2]]
            return found
    return schema


def reply(route: str) -> dict[str, Any]:
    """The fields of a route's reply, or of an object inside it."""
    method, path, status, *inside = route.split()
    answer = API["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    fields: dict[str, Any] = resolved(answer)["properties"]
    for name in inside:
        fields = resolved(fields[name])["properties"]
    return fields


def request(route: str) -> dict[str, Any]:
    method, path = route.split()
    body = API["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    fields: dict[str, Any] = resolved(body)["properties"]
    return fields


def kind(schema: dict[str, Any]) -> Any:
    """A field's type and whether it may be null, without its documentation and its words. Times are text."""
    if "anyOf" in schema:
        return sorted(str(kind(option)) for option in schema["anyOf"])
    if "$ref" in schema:
        described = API["components"]["schemas"].get(schema["$ref"].rpartition("/")[2], {})
        return "string" if "enum" in described else "object"
    if schema.get("type") == "array":
        return ["array", kind(schema["items"])]
    return (schema.get("type"), schema.get("format") if schema.get("format") != "date-time" else None)


@pytest.mark.parametrize("model", DESCRIBED, ids=lambda model: model.__name__)
def test_every_field_is_described_alike(model: type[BaseModel]) -> None:
    described = {name: kind(field) for name, field in reply(DESCRIBED[model]).items()}
    schema = model.model_json_schema()
    own = schema if "properties" in schema else schema["$defs"][model.__name__]  # of a model that contains itself
    ours = {name: kind(field) for name, field in own["properties"].items()}
    assert {name: field for name, field in ours.items() if name not in OF_THE_CLIENT} == described


@pytest.mark.parametrize("name", REMEDIES)
def test_every_field_of_a_remedy_is_described_alike(name: str) -> None:
    described = API["components"]["schemas"][name]["properties"]
    ours = REMEDIES[name].model_json_schema()["properties"]
    assert {field: kind(ours[field]) for field in ours} == {field: kind(described[field]) for field in described}


def test_every_remedy_is_known() -> None:
    options = reply("post /v1/billing/charges 402")["remedies"]["items"]["oneOf"]
    assert {option["$ref"].rpartition("/")[2] for option in options} == set(REMEDIES)
    assert set(get_args(remedies.Remedy)) == set(REMEDIES.values())


def test_every_reply_model_is_compared() -> None:
    modules = (models, usage, cost_records, holds, limits, runs, subscriptions, payments)
    everything = [value for module in modules for value in vars(module).values()]
    replies = {m for m in everything if inspect.isclass(m) and issubclass(m, models.Reply)}
    assert replies - {models.Reply} == set(DESCRIBED)


def test_users_and_contexts_have_the_service_s_fields() -> None:
    check = request(REQUESTS["check_credit"])
    person = set(check) - {"context"}
    assert set(User.__dataclass_fields__) | {"user_id"} == person == set(UserFields.__annotations__)
    assert set(CheckContext.__annotations__) == set(resolved(check["context"])["properties"])
    assert set(Metadata.__annotations__) == set(reply(f"{CHARGE} metadata"))


@pytest.mark.parametrize("operation", REQUESTS)
def test_every_request_field_can_be_given(operation: str) -> None:
    given = set(inspect.signature(getattr(Operations, operation)).parameters) - {"self", "user", "user_fields"}
    described = set(request(REQUESTS[operation])) - set(UserFields.__annotations__)
    assert given - NAMES_A_KEY.get(operation, set()) == described


def test_every_field_of_a_usage_event_can_be_given() -> None:
    """In the event itself, its user and its usage."""
    given = {field.name for field in fields(UsageEvent)} - {"usage", "user"} | set(User.__dataclass_fields__)
    assert given | {"metric"} == set(request("post /v1/usage"))


def test_every_field_of_a_cost_record_can_be_given() -> None:
    opening = {field.name for field in fields(CostRecordOpening)}
    assert opening - {"user"} | set(User.__dataclass_fields__) == set(request("post /v1/cost-records"))
    assert set(OpeningFields.__annotations__) == opening - {"user", "tool"}
    item = {field.name for field in fields(CostRecordItem)} - {"usage"} | {"metric"}
    assert item == set(request("post /v1/cost-records/{record_id}/items"))
    completion = set(inspect.signature(Operations.complete_cost_record).parameters) - {"self", "record_id"}
    assert completion == set(request("post /v1/cost-records/{record_id}/complete"))


def test_every_field_of_a_hold_can_be_given() -> None:
    opening = {field.name for field in fields(HoldOpening)}
    assert opening - {"user", "credits"} | set(User.__dataclass_fields__) == set(request(f"post {HOLDS}"))
    assert set(HoldFields.__annotations__) == opening - {"user"}
    for action in ("capture", "release", "extend", "report"):
        given = set(inspect.signature(getattr(Operations, f"{action}_hold")).parameters)
        assert given - {"self", "hold_id", "credits"} == set(request(f"post {HOLDS}/{{hold_id}}/{action}"))


def test_every_field_of_a_charge_of_a_batch_can_be_given() -> None:
    given = {field.name for field in fields(NewCharge)} - {"user", "interaction_id"}
    assert given | set(User.__dataclass_fields__) == set(request(REQUESTS["charge"]))


def test_every_field_of_a_run_can_be_given() -> None:
    opening = {field.name for field in fields(RunOpening)}
    budget = {"credits", "amount_minor", "amount"}
    described = set(request(f"post {RUNS}"))
    assert opening - {"user"} - budget | {"budget"} | set(User.__dataclass_fields__) == described
    assert set(RunFields.__annotations__) == opening - {"user", "run_id"}
    given = set(inspect.signature(Operations.change_run).parameters) - {"self", "run_id", "user"} - budget
    assert given | {"budget"} | set(User.__dataclass_fields__) == set(request(f"patch {RUNS}/{{run_id}}"))


@pytest.mark.parametrize("kind_of_usage", get_args(usage.Usage))
def test_every_field_of_a_usage_can_be_given(kind_of_usage: type[usage.Usage]) -> None:
    examples: dict[str, Any] = {
        "provider": "p",
        "model": "m",
        "meter": "sms",
        "quantity": 1,
        "endpoint": "/",
        "tool": "t",
    }
    needed = [field.name for field in fields(kind_of_usage) if field.default is MISSING]
    example = kind_of_usage(**{name: examples[name] for name in needed})
    described = next(kind for kind in metrics() if kind["properties"]["type"]["const"] == example.metric()["type"])
    assert {field.name for field in fields(kind_of_usage)} | {"type"} == set(described["properties"])
    assert set(example.metric()) <= set(described["properties"])


def metrics() -> list[dict[str, Any]]:
    options = request("post /v1/usage")["metric"]["oneOf"]
    return [resolved(option) for option in options]


def test_check_and_quote_send_every_field() -> None:
    check = set(inspect.signature(Operations.check_usage).parameters) - {"self", "user"}
    assert check | set(User.__dataclass_fields__) == set(request("post /v1/usage/check"))
    quote = set(inspect.signature(Operations.quote).parameters) - {"self", "usage", "user"}
    assert quote | {"metric", "oauth_provider", "external_id"} == set(request("post /v1/usage/quote"))


def test_unknown_fields_of_a_newer_service_are_ignored() -> None:
    reply = {"status": "healthy", "database": "connected", "timestamp": "2026-01-01T00:00:00Z", "mood": "good"}
    assert models.Health.model_validate(reply).status == "healthy"


def test_older_services_null_is_read_as_no_description() -> None:
    values = dict.fromkeys(models.Transaction.model_fields) | {
        "transaction_id": uuid.uuid4(),
        "type": "charge",
        "amount_minor": -100,
        "currency": "USD",
        "created_at": datetime.now(UTC),
        "balance_after": 0,
    }
    assert models.Transaction.model_validate(values).description == ""
