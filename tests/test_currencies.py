"""The table of currencies: Stripe's digits, steps and minimums, served by the API and kept by every form of a price."""

from datetime import datetime
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from app.accounts.directory import Identity, Opening, Profile
from app.billing.service import BillingService
from app.configuration.sections import OfferedDefaults, OfferedPacks, Packs
from app.currencies import CURRENCIES, info_of
from app.demo.stripe.account import Account, AccountConfig
from app.demo.stripe.objects import StripeError
from app.ledger.errors import UnknownCurrency
from ciris_billing import Currencies
from tests.books import connected
from tests.conftest import ACTOR, ClientFor, settings_for
from tests.databases import ROOT, Urls

# From Stripe's documentation, apart from the table, so that a slip in one shows.
DIGITS = {
    0: "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF",
    3: "BHD JOD KWD OMR TND",
    2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC "
    "CVE CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES KGS KHR "
    "KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK "
    "PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH UGX USD "
    "UYU UZS WST XCD XCG YER ZAR ZMW",
}
OF_CODE = {code: digits for digits, codes in DIGITS.items() for code in codes.split()}
REASON = {"version": 0, "reason": "a test"}


def test_the_table_holds_what_stripe_supports_in_its_digits() -> None:
    assert {code: info.digits for code, info in CURRENCIES.items()} == OF_CODE


def accepts(code: str, price_minor: int) -> bool:
    """Whether the form takes a pack of this price."""
    pack = {"name": "p", "price_minor": price_minor, "currency": code, "credits": 1}
    try:
        OfferedPacks.model_validate({"packs": [pack], **REASON})
    except ValidationError:
        return False
    return True


def is_charged(code: str, price_minor: int) -> bool:
    """Whether the local Stripe opens a payment of this price."""
    try:
        Account(AccountConfig("pk", "s"), lambda *_: None).create_intent(price_minor, code.lower(), {}, None)
    except StripeError:
        return False
    return True


@pytest.mark.parametrize("code", CURRENCIES)
def test_packs_are_refused_where_stripe_refuses_them(code: str) -> None:
    info = CURRENCIES[code]
    minimum, step = info.minimum_minor, info.step_minor
    for price in (minimum - step, minimum - 1, minimum, minimum + 1, minimum + step, 99_999_900):
        expected = price >= max(minimum, 1) and price % step == 0
        assert (accepts(code, price), is_charged(code, price)) == (expected, expected), price
    assert info.format(minimum + step) == in_digits(minimum + step, OF_CODE[code]) + f" {code}"


def in_digits(minor: int, digits: int) -> str:
    return f"{minor / 10**digits:.{digits}f}"


@pytest.mark.parametrize(
    ("code", "minor", "shown"),
    [
        ("USD", 1999, "19.99 USD"),
        ("USD", -5, "-0.05 USD"),
        ("JPY", 500, "500 JPY"),
        ("HUF", 17_500, "175.00 HUF"),
        ("IDR", 1_500_000, "15000.00 IDR"),
        ("ISK", 500, "5.00 ISK"),
        ("KWD", 5120, "5.120 KWD"),
        ("MGA", 5000, "5000 MGA"),
        ("ZZZ", 1050, "10.50 ZZZ"),
    ],
)
def test_amounts_are_shown_in_stripes_digits(code: str, minor: int, shown: str) -> None:
    assert info_of(code).format(minor) == shown


@pytest.mark.parametrize(
    ("pack", "field", "words"),
    [
        ({"currency": "KWD", "price_minor": 1505}, "price_minor", "multiples of 0.010 KWD"),
        ({"currency": "ISK", "price_minor": 150}, "price_minor", "multiples of 1.00 ISK"),
        ({"currency": "USD", "price_minor": 1}, "price_minor", "minimum is 0.50 USD"),
        ({"price_minor": 49}, "price_minor", "minimum is 0.50 USD"),
        ({"currency": "ZZZ", "price_minor": 500}, "currency", "does not charge ZZZ"),
    ],
)
def test_a_refused_pack_says_which_field_and_why(pack: dict[str, Any], field: str, words: str, database: Urls) -> None:
    with pytest.raises(ValidationError) as caught:
        OfferedPacks.model_validate({"packs": [{**pack, "name": "p", "credits": 1}], **REASON})
    [error] = caught.value.errors()
    assert error["loc"] == ("packs", 0, field)
    assert words in error["msg"]
    with pytest.raises(ValidationError, match="packs"):  # and at the start, from the settings
        settings_for(database, packs={"p": {**pack, "credits": 1}}, default_currency=pack.get("currency", "USD"))


def test_packs_that_were_stored_before_can_still_be_read() -> None:
    stored = {"name": "p", "price_minor": 1, "currency": "ZZZ", "credits": 1}
    assert Packs.model_validate({"packs": [stored]}).packs[0].price_minor == 1


def test_new_accounts_are_in_a_currency_that_stripe_charges(database: Urls) -> None:
    defaults = {"free_uses": 0, "daily_free_uses": 0, "plan_name": "free", **REASON}
    assert OfferedDefaults.model_validate({**defaults, "currency": "JPY"}).currency == "JPY"
    with pytest.raises(ValidationError, match="does not charge ZZZ"):
        OfferedDefaults.model_validate({**defaults, "currency": "ZZZ"})
    with pytest.raises(ValidationError, match="does not charge ZZZ"):
        settings_for(database, default_currency="ZZZ")


async def test_an_account_that_exists_keeps_its_currency_and_no_new_one_begins_in_an_unknown_one(
    billing: BillingService, agent: httpx.AsyncClient, user: dict[str, str], database: Urls, now: datetime
) -> None:
    refused = await agent.post("/v1/billing/accounts", json={**user, "currency": "ZZZ"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_currency")
    with pytest.raises(UnknownCurrency):
        await billing.accounts.get_or_create_account(
            Identity("live", user["oauth_provider"], user["external_id"]),
            Profile(),
            Opening(currency="ZZZ"),
            ACTOR,
            now,
        )
    made = await agent.post("/v1/billing/accounts", json=user)
    async with connected(database) as connection:
        change = "UPDATE accounts SET currency = 'ZZZ' WHERE account_id = $1::uuid"
        await connection.execute(change, made.json()["account_id"])
    for currency in ("ZZZ", "USD"):  # `currency` counts only when an account is created
        again = await agent.post("/v1/billing/accounts", json={**user, "currency": currency})
        assert (again.status_code, again.json()["currency"]) == (200, "ZZZ")
    charge = await agent.post("/v1/billing/charges", json={**user, "amount_minor": 100, "currency": "ZZZ"})
    assert charge.status_code == 201
    other = await agent.post("/v1/billing/charges", json={**user, "amount_minor": 100, "currency": "USD"})
    assert other.json()["code"] == "currency_mismatch"


async def test_the_api_serves_the_table_without_a_credential(client_for: ClientFor) -> None:
    answer = await client_for(None).get("/v1/billing/currencies")
    assert answer.status_code == 200
    assert "max-age" in answer.headers["Cache-Control"]
    served = Currencies.model_validate(answer.json())
    assert {currency.code: currency.digits for currency in served.currencies} == OF_CODE
    for code, minor in (("HUF", 17_500), ("KWD", 5120), ("JPY", -500), ("ZZZ", 5)):
        assert served.of(code).format(minor) == info_of(code).format(minor)


def test_no_page_takes_digits_of_a_currency_from_the_browser() -> None:
    """`Intl` may group digits; a currency's digits are the provider's."""
    for folder in ("admin-ui/src", "examples", "docs", "sdk/src"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".ts", ".tsx", ".js", ".html", ".md", ".py"):
                text = path.read_text(encoding="utf-8")
                for forbidden in ('style: "currency"', "resolvedOptions", "price_minor / 100", "price_minor'] / 100"):
                    assert forbidden not in text, (path, forbidden)
