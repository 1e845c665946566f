"""Exceptions as programs and people get them: copied, sent to another process, read; and what is refused unsent."""

import copy
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ciris_billing import (
    AccountSuspended,
    AsyncBillingClient,
    BillingClient,
    BillingError,
    CheaperModel,
    CreditStatus,
    HoldSettled,
    InsufficientCredits,
    InsufficientMoney,
    InvalidRequest,
    LimitExceeded,
    NoCredit,
    PaymentRequired,
    PurchaseFailed,
    PurchaseOffer,
    PurchasePending,
    RateLimited,
    SmallerAmount,
    UsageNotQueued,
    User,
    Wait,
)
from ciris_billing._failures import error_for
from ciris_billing.fastapi import BillingNotEnabled
from tests.sdk.conftest import Service

ERRORS = [
    InsufficientCredits("no", balance=1, required=2, code="c", status=402, request_id="r"),
    NoCredit(CreditStatus.assume(), required_minor=200),
    AccountSuspended("Account suspended: spam", status=403),
    InvalidRequest("no", fields=[{"loc": ["body", "wa_id"]}], status=422),
    RateLimited("no", retry_after=3.5, status=429),
    InsufficientMoney("no", balance=Decimal("0.1"), required=Decimal(1), currency="USD", status=402),
    LimitExceeded("no", limit={"amount": "5"}, required=Decimal(7), remedies=(), status=402),
    HoldSettled("no", hold_status="captured", captured=Decimal(300), status=409),
    InsufficientCredits("no", remedies=[SmallerAmount(type="smaller_amount", amount_minor=100)]),
    UsageNotQueued("no", event_id="e"),
    PurchaseFailed("canceled"),
    PurchasePending("processing"),
    BillingNotEnabled(),
]


def through_pickle(error: BillingError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("copied", [through_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_copies_and_other_processes(error: BillingError, copied: Callable[[BillingError], Any]) -> None:
    other = copied(error)
    assert (type(other), str(other), other.args, vars(other)) == (type(error), str(error), error.args, vars(error))


def test_a_refusals_figures_are_fields_and_not_words() -> None:
    """Another wording, or another language, changes no figure; an answer without figures has none."""
    figures = {"balance_minor": 200, "required_minor": 500, "shortfall_minor": 300, "max_affordable_minor": 200}
    body = {"detail": "Guthaben zu klein. Balance: 7, Required: 8", "code": "insufficient_credits"}
    error = error_for(402, {**body, **figures}, retry_after=None, request_id=None)
    assert isinstance(error, InsufficientCredits)
    assert (error.balance, error.required, error.shortfall, error.max_affordable) == (200, 500, 300, 200)
    for absent in ({}, dict.fromkeys(figures), dict.fromkeys(figures, "200"), dict.fromkeys(figures, True)):
        error = error_for(402, {**body, **absent}, retry_after=None, request_id=None)
        assert isinstance(error, InsufficientCredits)
        assert (error.balance, error.required, error.shortfall, error.max_affordable) == (None, None, None, None)


BUY = {
    "type": "purchase",
    "pack": "standard",
    "count": 1,
    "credits": 20,
    "price_minor": 500,
    "currency": "USD",
    "currency_digits": 2,
    "method": "POST",
    "path": "/v1/billing/purchases",
}
REMEDIES: list[Any] = [
    {"type": "smaller_amount", "amount_minor": 300, "amount": None, "currency": None},
    {"type": "of a newer service", "more": 1},
    {"type": "cheaper_model", "provider": "p", "model": "m", "cost": "0.0004", "currency": "USD", "price_version": 3},
    {"type": "wait", "until": "soon", "reason": "r"},
    {"type": "wait", "until": "2026-12-01T00:00:00.000Z", "reason": "daily_free_uses"},
    None,
    "wait",
    BUY,
]


@pytest.mark.parametrize("code", ["insufficient_credits", "insufficient_money", "of a newer service"])
def test_remedies_are_typed_and_unknown_ones_are_left_out(code: str) -> None:
    error = error_for(402, {"detail": "no", "code": code, "remedies": REMEDIES}, retry_after=None, request_id=None)
    assert isinstance(error, PaymentRequired)
    assert not error.retryable
    assert error.remedies == (
        SmallerAmount(type="smaller_amount", amount_minor=300),
        CheaperModel.model_validate(REMEDIES[2]),
        Wait(type="wait", until=datetime(2026, 12, 1, tzinfo=UTC), reason="daily_free_uses"),
        PurchaseOffer(**BUY),
    )
    absences: list[dict[str, Any]] = [{}, {"remedies": None}, {"remedies": {}}, {"remedies": "wait"}]
    for absent in absences:
        error = error_for(402, {"detail": "no", "code": code, **absent}, retry_after=None, request_id=None)
        assert isinstance(error, PaymentRequired)
        assert error.remedies == ()


LIMIT = {"id": "limit_1", "scope": "agent", "scope_value": "scout", "window": "day", "unit": "credits"}


def test_a_limit_says_what_an_agent_can_do() -> None:
    figures = {"amount": "50", "spent": "48", "resets_at": "2026-12-01T22:00:00Z"}
    remedies: list[dict[str, Any]] = [
        {"type": "smaller_amount", "amount_minor": 200},
        {"type": "wait", "until": "2026-12-01T22:00:00Z", "reason": "limit"},
        {"type": "request_approval", "approval_id": "approval_1", "until": "2026-12-01T22:00:00Z"},
    ]
    body = {"detail": "no", "code": "limit_exceeded", "limit": {**LIMIT, **figures}, "required": "5"}
    error = error_for(402, {**body, "remedies": remedies}, retry_after=None, request_id="r")
    assert isinstance(error, LimitExceeded)
    assert (error.amount, error.spent, error.required) == (Decimal(50), Decimal(48), Decimal(5))
    assert (error.max_affordable_minor, error.wait_until) == (200, datetime(2026, 12, 1, 22, tzinfo=UTC))
    assert (error.resets_at, error.limit["scope_value"]) == (error.wait_until, "scout")
    assert [remedy.type for remedy in error.remedies] == [remedy["type"] for remedy in remedies]
    broken: list[dict[str, Any]] = [
        {},
        {"limit": [], "remedies": {}},
        {"limit": {"amount": 5, "resets_at": "x"}, "remedies": [1]},
    ]
    for absent in broken:
        bare = error_for(402, {"code": "limit_exceeded", **absent}, retry_after=None, request_id=None)
        assert isinstance(bare, LimitExceeded)
        assert (bare.amount, bare.resets_at, bare.wait_until, bare.max_affordable_minor) == (None,) * 4


MONEY = {"balance": "0.000100", "required": "0.020000", "currency": "USD"}
INNER = {"code": "insufficient_credits", "message": "Too little", "details": {"balance": 0, "required": 2}}


@pytest.mark.parametrize(
    ("body", "message", "figures"),
    [
        (
            {"error": INNER, "detail": "Too little", "code": "insufficient_money", **MONEY},
            "Too little",
            (Decimal("0.0001"), Decimal("0.02"), Decimal("0.0199"), 0, 2, "USD"),
        ),
        ({"error": INNER}, "Too little", (None, None, None, 0, 2, None)),
        ({"error": {"code": 1, "details": []}}, "The billing service answered 402", (None,) * 6),
        ({"code": "insufficient_money", **dict.fromkeys(MONEY, 1)}, "The billing service answered 402", (None,) * 6),
        (
            {"code": "insufficient_money", "balance": "much", "required": "1"},
            "The billing service answered 402",
            (None, Decimal(1), None, None, None, None),
        ),
    ],
)
def test_refusal_of_money_is_read_from_both_envelopes(body: Any, message: str, figures: tuple[Any, ...]) -> None:
    error = error_for(402, body, retry_after=None, request_id="r")
    assert isinstance(error, InsufficientMoney)
    found = (error.balance, error.required, error.shortfall, error.balance_cents, error.required_cents, error.currency)
    assert (str(error), found, error.request_id) == (message, figures, "r")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": "not_found", "message": "Account not found"}}, "not_found", "Account not found"),
        ({"error": {"code": "x", "message": "y"}, "code": "ours", "detail": "z"}, "ours", "z"),
        ({"error": "Unauthorized", "message": "no"}, "not_found", "The billing service answered 404"),
        ({"error": None}, "not_found", "The billing service answered 404"),
    ],
)
def test_code_and_message_are_read_from_both_envelopes(body: Any, code: str, message: str) -> None:
    error = error_for(404, body, retry_after=None, request_id=None)
    assert (error.code, str(error)) == (code, message)


def test_message_says_which_field_is_wrong() -> None:
    wrong = [
        {"type": "missing", "loc": ["body", "external_id"], "msg": "Field required", "input": {"secret": "ada"}},
        {"type": "int", "loc": ["body", "metadata", "agent_id"], "msg": "Input should be a valid string"},
    ]
    error = error_for(422, {"detail": wrong, "code": "validation_error"}, retry_after=None, request_id=None)
    assert str(error) == "external_id: Field required; metadata.agent_id: Input should be a valid string"
    assert isinstance(error, InvalidRequest)
    assert error.fields == wrong
    nonsenses: list[list[Any]] = [[], [1], [{}], [{"loc": 1, "msg": None}]]
    for nonsense in nonsenses:
        assert str(error_for(422, {"detail": nonsense}, retry_after=None, request_id=None))


async def test_what_no_request_can_carry_is_an_invalid_request(billing: Any) -> None:
    """Half a character, as a cut-off text may end in, or no number: refused here, with the SDK's own exception."""
    half, nobody = User("oauth:google", "half \ud83d"), User("oauth:google", "nan")
    report: dict[str, Any] = {"total_llm_calls": 1, "total_prompt_tokens": 1, "total_completion_tokens": 1}
    report |= {"models_used": ["m"], "duration_ms": 1, "interaction_id": "i", "actual_cost_cents": float("nan")}
    unsendable: list[Callable[[], Any]] = [
        lambda: billing.charge(half, interaction_id="1"),
        lambda: billing.get_account(half),
        lambda: billing.transaction_page(half),
        lambda: billing.report_llm_usage(nobody, **report),
    ]
    for unsent in unsendable:
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            await unsent()
    name = f"half-named-{uuid.uuid4()}"
    assert not (await billing.charge(User("oauth:google", name), interaction_id="half \ud83d")).replayed


def test_empty_id_does_not_become_another_path(service: Service) -> None:
    with BillingClient(service.url, service.keys.agent) as client, pytest.raises(InvalidRequest, match="empty"):
        client.get_charge("")


def test_account_of_nobody_is_a_mistake(service: Service) -> None:
    with BillingClient(service.url, service.keys.agent) as client, pytest.raises(TypeError, match="account_id"):
        client.get_account()


@pytest.mark.parametrize(
    "address", ["billing.example.com", "http://", "https://[::1", "http://127.0.0.1:8000\n", "ftp://billing"]
)
def test_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        AsyncBillingClient(address, "key")
