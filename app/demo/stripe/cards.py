"""Test cards of the local Stripe, and payment methods that the buyer completes later."""

from typing import Any

CARDS: dict[str, str] = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_processing": "4000000000000077",
    "pm_card_pendingRefund": "4000000000007726",
    "pm_card_refundFail": "4000000000005126",
}
BUYERS_PREFIX = "42424242"
"""Cards with this prefix and a valid check digit succeed. Stripe has no such test cards. They give each buyer of the
sample traffic a card with a unique fingerprint and last four digits."""
VOUCHERS: dict[str, str] = {
    "pm_boleto": "boleto_display_details",
    "pm_customer_balance": "display_bank_transfer_instructions",
    "pm_konbini": "konbini_display_details",
    "pm_multibanco": "multibanco_display_details",
    "pm_oxxo": "oxxo_display_details",
    "pm_pix": "pix_display_qr_code",
    "pm_us_bank_account": "verify_with_microdeposits",
}
"""Payment methods that the buyer completes days later, with the `next_action` type that they lead to."""
ONLY_CHARGES_FAIL = "4000000000000341"
"""A card that can be saved, and declines each payment."""
DECLINES = {
    "4000000000000002": "generic_decline",
    "4000000000009995": "insufficient_funds",
    "4000000000000069": "expired_card",
    ONLY_CHARGES_FAIL: "generic_decline",
}
AUTHENTICATE, AUTHENTICATE_UNTIL_SET_UP = "4000002760003184", "4000002500003155"
"""Cards of 3-D Secure. The second pays off session once the buyer has set it up."""
DISPUTE, PROCESSING = "4000000000000259", "4000000000000077"
PENDING_REFUND, FAILING_REFUND = "4000000000007726", "4000000000005126"


def needs_authentication(number: str, *, off_session: bool = False, set_up: bool = False) -> bool:
    return number == AUTHENTICATE or (number == AUTHENTICATE_UNTIL_SET_UP and not (off_session and set_up))


def check_digit(digits: str) -> str:
    """Return the last digit of a card number, by the Luhn algorithm (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - number % 2) for number, digit in enumerate(reversed(digits))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def is_accepted_card(number: str) -> bool:
    """Return whether the number is a test card, or the card of a buyer in the sample traffic."""
    own = len(number) == 16 and number.isdecimal() and number.startswith(BUYERS_PREFIX)
    return number in CARDS.values() or (own and check_digit(number[:-1]) == number[-1])


def card_details(number: str) -> dict[str, Any]:
    return {
        "brand": "mastercard" if number.startswith("5") else "visa",
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"fp{number[-8:]}",
        "funding": "credit",
        "last4": number[-4:],
    }


def details_of(number: str) -> dict[str, Any]:
    """Return a payment method's type and its details: of a card number, or the name of another way to pay."""
    if number in VOUCHERS:
        kind = number.removeprefix("pm_")
        return {"type": kind, kind: {}}
    return {"type": "card", "card": card_details(number)}
