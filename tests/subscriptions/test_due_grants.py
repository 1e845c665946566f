"""The grants that paid periods call for."""

from fractions import Fraction

import pytest

from app.plans.document import PlanGrant
from app.subscriptions.due_grants import due_grants, next_start
from app.subscriptions.state import Invoice, Subscribed, Terms
from tests.subscriptions.made import (
    DOLLAR,
    TERMS,
    at,
    dispute,
    invoice,
    line,
    plan,
    refund,
    subscribed,
    subscription,
)

LATER = at("2028-06-01")


def given(one: Subscribed, now: str = "2028-06-01") -> list[tuple[str, str, float]]:
    """Return day, kind and dollars of each due grant."""
    return [(f"{due.period.start:%Y-%m-%d}", due.kind, due.amount / DOLLAR) for due in due_grants(one, now=at(now))]


def test_each_paid_month_grants_once_and_an_unpaid_one_nothing() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-01-31", "2026-02-28")),
        invoice(2, line("price_standard", "2026-02-28", "2026-03-31")),
        invoice(3, line("price_standard", "2026-03-31", "2026-04-30"), status="open"),
        at=LATER,
    )
    assert given(one) == [("2026-01-31", "USD:month", 25), ("2026-02-28", "USD:month", 25)]


@pytest.mark.parametrize(
    ("start", "months"),
    [
        ("2026-01-31", ["01-31", "02-28", "03-31", "04-30"]),
        ("2028-02-29", ["02-29", "03-29", "04-29", "05-29"]),
        ("2026-12-15", ["12-15", "01-15", "02-15", "03-15"]),
    ],
)
def test_paid_year_grants_each_month(start: str, months: list[str]) -> None:
    end = f"{int(start[:4]) + 1}{start[4:].replace('02-29', '02-28')}"
    one = subscribed(
        invoice(1, line("price_standard_year", start, end, 20_000)), at=at("2040-01-01"), started_at=at(start)
    )
    found = given(one, "2040-01-01")
    assert [day[5:] for day, _, _ in found[:4]] == months
    assert [dollars for _, _, dollars in found] == [25] * 12


def test_month_of_a_year_waits_until_its_state_is_known() -> None:
    year = invoice(1, line("price_standard_year", "2026-01-15", "2027-01-15", 20_000), at=at("2026-01-15"))
    one = subscribed(year, started_at=at("2026-01-15"), at=at("2026-01-15"))
    assert len(given(one)) == 1
    one = subscribed(year, started_at=at("2026-01-15"), at=at("2026-01-15"), seen_at=at("2026-04-15"))
    assert len(given(one)) == 4
    assert len(given(one, "2026-03-14")) == 2
    assert next_start(one, after=at("2026-03-20")) == at("2026-04-15")
    assert next_start(one, after=at("2026-12-20")) is None


def test_end_in_mid_year_ends_the_monthly_grants() -> None:
    year = invoice(1, line("price_standard_year", "2026-01-15", "2027-01-15", 20_000))
    one = subscribed(
        year, started_at=at("2026-01-15"), at=at("2026-03-20"), status="canceled", ended_at=at("2026-03-20")
    )
    one = Subscribed(
        subscription(started_at=at("2026-01-15"), at=LATER, status="canceled", ended_at=at("2026-03-20")),
        one.invoices,
        TERMS,
    )
    assert [day for day, _, _ in given(one)] == ["2026-01-15", "2026-02-15", "2026-03-15"]


def test_late_invoice_is_granted_after_the_end() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-01-31", "2026-02-28"), at=at("2026-04-01")),
        status="canceled",
        ended_at=at("2026-02-20"),
        at=at("2026-02-20"),
    )
    assert given(one) == [("2026-01-31", "USD:month", 25)]


@pytest.mark.parametrize(
    ("taken", "months"),
    [
        ({"refunds": refund(20_000)}, 0),
        ({"refunds": refund(20_000, "failed")}, 3),
        ({"refunds": refund(10_000)}, 3),
        ({"disputes": dispute(20_000, "open")}, 0),
        ({"disputes": dispute(20_000, "won")}, 3),
        ({"refunds": refund(15_000), "disputes": dispute(5_000, "lost")}, 0),
        ({"reported": {"pi_1": 20_000}}, 0),
    ],
)
def test_wholly_returned_payment_grants_nothing_more(taken: dict[str, object], months: int) -> None:
    year = invoice(1, line("price_standard_year", "2026-01-15", "2027-01-15", 20_000), at=at("2026-03-20"), **taken)
    assert len(given(subscribed(year, started_at=at("2026-01-15"), at=at("2026-03-20")))) == months


def test_upgrade_grants_the_difference_for_the_remaining_time() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-01-31", "2026-02-28")),
        invoice(
            2,
            line("price_standard", "2026-02-14", "2026-02-28", -1000, proration=True),
            line("price_pro", "2026-02-14", "2026-02-28", 2500, proration=True),
        ),
        at=LATER,
    )
    assert given(one) == [
        ("2026-01-31", "USD:month", 25),
        ("2026-02-14", "USD:month:change:price_pro", 17.5),
    ]


def test_changing_back_and_forth_grants_nothing_twice() -> None:
    def change(number: int, day: str, before: str, after: str) -> Invoice:
        return invoice(
            number,
            line(before, day, "2026-02-28", -900, proration=True),
            line(after, day, "2026-02-28", 1000, proration=True),
        )

    one = subscribed(
        invoice(1, line("price_standard", "2026-01-31", "2026-02-28")),
        change(2, "2026-02-14", "price_standard", "price_pro"),
        change(3, "2026-02-15", "price_pro", "price_standard"),
        change(4, "2026-02-16", "price_standard", "price_pro"),
        at=LATER,
    )
    assert sum(dollars for _, _, dollars in given(one)) == 25 + 17.5


def test_upgrade_in_mid_year_counts_from_then_on() -> None:
    one = subscribed(
        invoice(1, line("price_standard_year", "2026-01-01", "2027-01-01", 20_000)),
        invoice(2, line("price_pro_year", "2026-02-15", "2027-01-01", 30_000, proration=True), at=at("2026-02-15")),
        started_at=at("2026-01-01"),
        at=at("2026-04-02"),
    )
    half = Fraction(35 * 14, 28)
    assert given(one) == [
        ("2026-01-01", "USD:month", 25),
        ("2026-02-01", "USD:month", 25),
        ("2026-02-15", "USD:month:change:price_pro_year", float(half)),
        ("2026-03-01", "USD:month", 25),
        ("2026-03-01", "USD:month:change:price_pro_year", 35),
        ("2026-04-01", "USD:month", 25),
        ("2026-04-01", "USD:month:change:price_pro_year", 35),
    ]


def test_year_that_begins_in_mid_month_grants_its_first_month_less_the_unused_part() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-04-01", "2026-05-01")),
        invoice(
            2,
            line("price_standard", "2026-04-16", "2026-05-01", -1000, proration=True),
            line("price_pro_year", "2026-04-16", "2027-04-16", 50_000),
        ),
        started_at=at("2026-04-01"),
        at=at("2026-05-17"),
    )
    assert given(one) == [
        ("2026-04-01", "USD:month", 25),
        ("2026-04-16", "USD:month", 60 - 12.5),
        ("2026-05-16", "USD:month", 60),
    ]


def test_month_that_replaces_a_year_ends_the_grants_of_the_year() -> None:
    one = subscribed(
        invoice(1, line("price_standard_year", "2026-01-01", "2027-01-01", 20_000)),
        invoice(
            2,
            line("price_standard_year", "2026-02-15", "2027-01-01", -17_500, proration=True),
            line("price_pro", "2026-02-15", "2026-03-15", 5000),
        ),
        invoice(3, line("price_pro", "2026-03-15", "2026-04-15", 5000)),
        started_at=at("2026-01-01"),
        price_id="price_pro",
        at=at("2026-04-20"),
    )
    assert given(one) == [
        ("2026-01-01", "USD:month", 25),
        ("2026-02-01", "USD:month", 25),
        ("2026-02-15", "USD:month", 60 - 12.5),
        ("2026-03-15", "USD:month", 60),
    ]
    assert one.price_in_force(at("2026-04-15")) == "price_pro"
    assert next_start(one, after=at("2026-04-20")) is None


def test_upgrade_in_the_second_in_which_the_period_starts_counts_from_then() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-04-01", "2026-05-01")),
        invoice(2, line("price_pro", "2026-04-01", "2026-05-01", 3000, proration=True)),
        started_at=at("2026-04-01"),
        price_id="price_pro",
        at=at("2026-04-02"),
    )
    assert sum(amount for _, _, amount in given(one)) == 60
    assert one.price_in_force(at("2026-04-02")) == "price_pro"


def test_upgrade_after_a_change_of_interval_adds_to_the_new_period_only() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-04-01", "2026-05-01")),
        invoice(2, line("price_standard_year", "2026-04-11", "2027-04-11", 20_000)),
        invoice(3, line("price_pro_year", "2026-04-26", "2027-04-11", 29_000, proration=True)),
        started_at=at("2026-04-01"),
        at=at("2026-04-30"),
    )
    assert given(one) == [
        ("2026-04-01", "USD:month", 25),
        ("2026-04-11", "USD:month", 25),
        ("2026-04-26", "USD:month:change:price_pro_year", 17.5),
    ]


def test_downgrade_grants_the_lower_amount_from_the_next_period() -> None:
    one = subscribed(
        invoice(1, line("price_pro", "2026-01-31", "2026-02-28", 5000)),
        invoice(2, line("price_standard", "2026-02-28", "2026-03-31")),
        at=LATER,
    )
    assert [dollars for _, _, dollars in given(one)] == [60, 25]
    assert one.price_in_force(at("2026-02-27")) == "price_pro"
    assert one.price_in_force(at("2026-02-28")) == "price_standard"


def test_days_and_what_is_given_once() -> None:
    mixed = plan(
        "standard",
        grants=[
            PlanGrant(unit="credit", amount="3", cadence="day"),
            PlanGrant(unit="money", currency="USD", amount="9", cadence="once", expires="never"),
        ],
    )
    one = Subscribed(
        subscription(at=at("2026-02-02T12:00")),
        (invoice(1, line("price_standard", "2026-01-31", "2026-02-28")),),
        {"price_standard": Terms(mixed, "month")},
    )
    found = due_grants(one, now=LATER)
    assert [(f"{due.period.start:%m-%d}", due.kind, due.amount) for due in found] == [
        ("01-01", "standard:USD:once", 9 * DOLLAR),
        ("01-31", "credit:day", 3),
        ("02-01", "credit:day", 3),
        ("02-02", "credit:day", 3),
    ]
    assert found[0].expires_at() is None
    assert found[1].expires_at() == at("2026-02-01")


def test_trial_grants_once_for_its_whole_length() -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-01-01", "2026-03-01", 0)),
        started_at=at("2026-01-01"),
        status="trialing",
        at=at("2026-02-15"),
    )
    assert given(one) == [("2026-01-01", "USD:month", 25)]


def test_price_without_terms_grants_nothing() -> None:
    assert given(subscribed(invoice(1, line("price_other", "2026-01-31", "2026-02-28")), at=LATER)) == []
