"""The plan document: what it accepts, and what it says about a plan."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.plans.document import MAX_PLANS, OfferedPlans, Plan, PlanGrant, Plans, removed
from app.plans.shipped import SHIPPED

DOLLAR = 10**9
PRICE = {"interval": "month", "currency": "USD", "amount_minor": 2000}
GRANT = {"unit": "money", "currency": "USD", "amount": "25.00"}
CREDITS = {"unit": "credit", "amount": "100"}
LIMIT = {"window": "day", "unit": "USD", "amount": "10.50"}


def plan(**changes: Any) -> dict[str, Any]:
    return {"name": "standard", "title": "Standard", **changes}


def test_the_shipped_plans_have_z_billings_figures() -> None:
    found = {
        p.name: (
            [price.amount_minor for price in p.prices],
            [grant.units for grant in p.grants],
            p.purchase_discount_percent,
            p.by_agreement,
        )
        for p in SHIPPED.listed()
    }
    assert found == {
        "free": ([], [], "0", False),
        "standard": ([2000], [25 * DOLLAR], "10", False),
        "pro": ([5000], [60 * DOLLAR], "20", False),
        "enterprise": ([], [], "0", True),
    }
    OfferedPlans.model_validate(SHIPPED.model_dump())  # an admin can save it as it is


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Standard"}, "name"),
        ({"name": ""}, "name"),
        ({"title": ""}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"surprise": 1}, "surprise"),
        ({"order": -1}, "order"),
        ({"visibility": "secret"}, "visibility"),
        ({"purchase_discount_percent": "100"}, "purchase_discount_percent"),
        ({"purchase_discount_percent": "-1"}, "purchase_discount_percent"),
        ({"purchase_discount_percent": 10.5}, "purchase_discount_percent"),
        ({"markup_percent": "-100.1"}, "markup_percent"),
        ({"markup_percent": "1e3"}, "markup_percent"),
        ({"features": [""]}, "features"),
        ({"features": ["x"] * 51}, "features"),
        ({"prices": [{**PRICE, "amount_minor": 0}]}, "amount_minor"),
        ({"prices": [{**PRICE, "amount_minor": 49}]}, "Stripe's minimum is 0.50 USD"),
        ({"prices": [{**PRICE, "currency": "XXX"}]}, "currency"),
        ({"prices": [{**PRICE, "interval": "week"}]}, "interval"),
        ({"prices": [{**PRICE, "stripe_price_live": "prod_1"}]}, "stripe_price_live"),
        ({"prices": [{**PRICE, "surprise": 1}]}, "surprise"),
        ({"prices": [PRICE, PRICE]}, "month in USD is there twice"),
        ({"grants": [{**GRANT, "amount": "0.00"}]}, "must be above 0"),
        ({"grants": [{**GRANT, "amount": 25}]}, "amount"),
        ({"grants": [{**GRANT, "amount": "9999999999"}]}, "64 bits"),
        ({"grants": [{**GRANT, "amount": "0.0000000001"}]}, "amount"),
        ({"grants": [{**GRANT, "currency": None}]}, "currency"),
        ({"grants": [{**CREDITS, "currency": "USD"}]}, "currency"),
        ({"grants": [{**CREDITS, "amount": "1.5"}]}, "whole numbers"),
        ({"grants": [{**GRANT, "expires": "after_days"}]}, "expires_after_days"),
        ({"grants": [{**GRANT, "expires_after_days": 3}]}, "expires_after_days"),
        ({"grants": [{**GRANT, "rollover": "up_to"}]}, "rollover_up_to"),
        ({"grants": [{**GRANT, "rollover": "all", "rollover_up_to": "1"}]}, "rollover_up_to"),
        ({"grants": [{**GRANT, "rollover": "all", "cadence": "once"}]}, "rollover"),
        ({"grants": [{**GRANT, "rollover": "all", "expires": "never"}]}, "rollover"),
        ({"grants": [GRANT, {**GRANT, "amount": "1"}]}, "USD:month is there twice"),
        ({"default_limits": [{**LIMIT, "scope": "agent"}]}, "scope_value"),
        ({"default_limits": [{**LIMIT, "scope_value": "a"}]}, "scope_value"),
        ({"default_limits": [{**LIMIT, "unit": "uses"}]}, "uses are whole numbers"),
        ({"default_limits": [{**LIMIT, "unit": "dollars"}]}, "unit"),
        ({"default_limits": [{**LIMIT, "window": "week"}]}, "window"),
        ({"default_limits": [{**LIMIT, "action": "explode"}]}, "action"),
        ({"default_limits": [{**LIMIT, "amount": "-1"}]}, "amount"),
    ],
)
def test_an_admin_cannot_save_a_plan_that_breaks_a_rule(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        OfferedPlans.model_validate({"plans": [plan(**changes)]})
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("plans", "problem"),
    [
        ([plan(), plan()], "plan standard is there twice"),
        ([plan(name=f"p{number}") for number in range(MAX_PLANS + 1)], "at most"),
        (
            [plan(name=name, prices=[{**PRICE, "stripe_price_live": "price_1"}]) for name in ("a", "b")],
            "Stripe's price price_1 is there twice",
        ),
    ],
)
def test_plans_are_distinct(plans: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        OfferedPlans.model_validate({"plans": plans})
    assert problem in str(refused.value)


def test_one_price_may_be_of_both_environments() -> None:
    both = {**PRICE, "stripe_price_live": "price_1", "stripe_price_test": "price_1"}
    price = OfferedPlans.model_validate({"plans": [plan(prices=[both])]}).plans[0].prices[0]
    assert (price.stripe_price("live"), price.stripe_price("test")) == ("price_1", "price_1")


def test_a_stored_document_with_members_of_a_later_version_is_readable() -> None:
    later = plan(later=1, prices=[{**PRICE, "later": 1}], grants=[{**GRANT, "later": 1}])
    assert Plans.model_validate({"plans": [later], "later": 1}).plans[0] == Plan.model_validate(
        plan(prices=[PRICE], grants=[GRANT])
    )


def test_a_plan_answers_for_its_prices_grants_and_limits() -> None:
    yearly = {**PRICE, "interval": "year", "amount_minor": 20_000}
    limits = [LIMIT, {**LIMIT, "unit": "credits", "amount": "7"}]
    found = Plan.model_validate(plan(prices=[PRICE, yearly], grants=[GRANT, CREDITS], default_limits=limits))
    price = found.price("year", "USD")
    assert price is not None
    assert (price.amount_minor, price.stripe_price("live")) == (20_000, None)
    assert found.price("year", "EUR") is None
    assert [(grant.key, grant.units) for grant in found.grants] == [("USD:month", 25 * DOLLAR), ("credit:month", 100)]
    assert [limit.units for limit in found.default_limits] == [21 * DOLLAR // 2, 7]


@pytest.mark.parametrize(
    ("rule", "most"),
    [({}, 0), ({"rollover": "all"}, None), ({"rollover": "up_to", "rollover_up_to": "5"}, 5 * DOLLAR)],
)
def test_what_may_roll_over(rule: dict[str, Any], most: int | None) -> None:
    assert PlanGrant.model_validate({**GRANT, **rule}).most_carried == most


def test_the_list_leaves_out_hidden_and_withdrawn_plans_and_is_ordered() -> None:
    plans = Plans.model_validate(
        {
            "plans": [
                plan(name="c", order=1),
                plan(name="b", order=1),
                plan(name="a", order=2),
                plan(name="hidden", visibility="hidden"),
                plan(name="gone", withdrawn=True),
            ]
        }
    )
    assert [p.name for p in plans.listed()] == ["b", "c", "a"]
    assert plans.find("gone") is not None
    assert plans.find("Trial of 2019") is None


def test_removed_plans_are_named() -> None:
    before, after = {"plans": [{"name": "a"}, {"name": "b"}]}, {"plans": [{"name": "c"}, {"name": "b"}]}
    assert removed(before, after) == ["a"]
    assert removed(after, after) == []
