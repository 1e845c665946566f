"""Currencies: the ones that Stripe charges, with their digits, steps and minimum charges.

The only such table: the API serves it, and all code that shows or reads an amount uses it. The digits in other sources
(ISO 4217, `Intl` in browsers) differ from Stripe's for HUF, IDR, ISK, MGA and others. Source:
https://docs.stripe.com/currencies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

NANO_DIGITS = 9
"""Decimal digits of a nano, 10^-9 of a currency's major unit."""


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


ZERO_DECIMAL = _codes("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF")
"""The minor unit is the currency's main unit."""
THREE_DECIMAL = _codes("BHD JOD KWD OMR TND")
"""The minor unit is a thousandth. Stripe accepts only multiples of ten."""
WHOLE_UNITS = _codes("ISK UGX")
"""No fractions, but written with two decimals that are always 00."""
TWO_DECIMAL = _codes(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE CZK
    DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT LAK LBP
    LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON
    RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH USD UYU UZS WST XCD XCG YER ZAR
    ZMW
    """
)
"""The minor unit is a hundredth. HUF and TWD too: Stripe restricts their payouts to whole units, not their charges."""
MINIMUM_MINOR = {
    **dict.fromkeys(_codes("ARS AUD BRL CAD CHF COP EUR IDR ILS INR JPY KRW NZD PHP RUB SGD USD ZAR"), 50),
    **dict.fromkeys(_codes("AED MYR PLN RON"), 200),
    **dict.fromkeys(_codes("NOK SEK"), 300),
    **dict.fromkeys(_codes("MXN THB"), 1000),
    "CZK": 1500,
    "DKK": 250,
    "GBP": 30,
    "HKD": 400,
    "HUF": 17_500,
}
"""Stripe's minimum charge in the currency that is paid out. If a charge is converted first, Stripe compares
its value in the other currency, which only Stripe knows: such a price can be rejected later (`purchase_rejected`)."""


@dataclass(frozen=True, slots=True)
class CurrencyInfo:
    """A currency. Amounts are integers of the minor unit, 10^-digits. Stripe accepts multiples of `step_minor`."""

    code: str
    digits: int
    step_minor: int
    minimum_minor: int

    @property
    def nanos_per_minor(self) -> int:
        nanos: int = 10 ** (NANO_DIGITS - self.digits)
        return nanos

    def format(self, minor: int) -> str:
        """Return the amount as text: `1999` is "19.99 USD"."""
        units, fraction = divmod(abs(minor), 10**self.digits)
        sign, point = "-" if minor < 0 else "", f".{fraction:0{self.digits}}" if self.digits else ""
        return f"{sign}{units}{point} {self.code}"


def _info(code: str) -> CurrencyInfo:
    digits = 0 if code in ZERO_DECIMAL else 3 if code in THREE_DECIMAL else 2
    step = 10 if code in THREE_DECIMAL else 100 if code in WHOLE_UNITS else 1
    return CurrencyInfo(code, digits, step, MINIMUM_MINOR.get(code, step))


CURRENCIES: Mapping[str, CurrencyInfo] = {
    code: _info(code) for code in sorted(ZERO_DECIMAL | TWO_DECIMAL | THREE_DECIMAL | WHOLE_UNITS)
}


def info_of(code: str) -> CurrencyInfo:
    """Return a currency. An unknown one, as old accounts and purchases may name, gets Stripe's default: two digits."""
    return CURRENCIES.get(code) or CurrencyInfo(code, 2, 1, 1)


def problem_of(code: str, price_minor: int) -> str | None:
    """Return why Stripe would reject this price in a known currency; None if nothing is known before asking Stripe."""
    currency = CURRENCIES[code]
    if price_minor % currency.step_minor:
        return f"Stripe accepts multiples of {currency.format(currency.step_minor)} only"
    if price_minor < currency.minimum_minor:
        return f"Stripe's minimum is {currency.format(currency.minimum_minor)}"
    return None
