"""One Stripe account: its objects and their state changes. No HTTP here."""

import copy
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from app.currencies import CURRENCIES

Object = dict[str, Any]

CARDS: dict[str, str] = {
    "pm_card_visa": "4242424242424242",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_authenticationRequired": "4000002500003155",
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
DECLINES = {"4000000000000002": "generic_decline", "4000000000009995": "insufficient_funds"}
AUTHENTICATE, DISPUTE, PROCESSING = "4000002500003155", "4000000000000259", "4000000000000077"
PENDING_REFUND, FAILING_REFUND = "4000000000007726", "4000000000005126"
OPEN_INTENT = ("requires_payment_method", "requires_confirmation", "requires_action")
CLOSED_DISPUTE = ("won", "lost", "warning_closed", "prevented")
OPEN_REFUND = ("pending", "requires_action")
RefundOutcome = Literal["succeeded", "failed", "canceled"]
CaseType = Literal["resolution", "block"]
"""The reason why a dispute was prevented: Stripe refunded the cardholder, or the issuer dropped the case."""


SIMULATED_S: ContextVar[int | None] = ContextVar("simulated_s", default=None)
"""The simulated time of this request in seconds, for sample traffic. Its events are logged, not delivered."""


def now_s() -> int:
    simulated_s = SIMULATED_S.get()
    return int(time.time()) if simulated_s is None else simulated_s


class StripeError(Exception):
    """An error answer in Stripe's format."""

    def __init__(self, status: int, kind: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": message, **more}


def invalid(message: str, param: str, code: str = "parameter_invalid") -> StripeError:
    return StripeError(400, "invalid_request_error", message, param=param, code=code)


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_urlsafe(18).replace('-', 'x').replace('_', 'y')}"


def check_digit(digits: str) -> str:
    """Return the last digit of a card number, by the Luhn algorithm (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - number % 2) for number, digit in enumerate(reversed(digits))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def is_accepted_card(number: str) -> bool:
    """Return whether the number is a test card, or the card of a buyer in the sample traffic."""
    own = len(number) == 16 and number.isdecimal() and number.startswith(BUYERS_PREFIX)
    return number in CARDS.values() or (own and check_digit(number[:-1]) == number[-1])


def _details_of(card: str) -> Object:
    if card in VOUCHERS:
        kind = card.removeprefix("pm_")
        return {"type": kind, kind: {}}
    return {"type": "card", "card": {"brand": "visa", "last4": card[-4:], "fingerprint": f"fp{card[-8:]}"}}


@dataclass(frozen=True)
class AccountConfig:
    """The configuration of an account beside its secret key: for browsers, and for its webhooks."""

    publishable_key: str
    webhook_secret: str
    webhook_url: str | None = None


@dataclass
class Remembered:
    """The answer to an idempotency key; None while the first request is under way."""

    fingerprint: str
    answer: tuple[int, Object] | None = None


@dataclass
class Account:
    config: AccountConfig
    publish: Callable[["Account", Object], None]
    objects: dict[str, dict[str, Object]] = field(
        default_factory=lambda: {kind: {} for kind in ("payment_intent", "charge", "refund", "dispute", "event")}
    )
    remembered: dict[str, Remembered] = field(default_factory=dict)
    undelivered: dict[str, None] = field(default_factory=dict)
    """Ids of events that are not delivered yet, in order; a restart continues with them."""

    def find(self, kind: str, object_id: str) -> Object:
        found = self.objects[kind].get(object_id)
        if found is None:
            message = f"No such {kind}: '{object_id}'"
            raise StripeError(404, "invalid_request_error", message, param="id", code="resource_missing")
        return found

    def _add(self, kind: str, prefix: str, **fields: object) -> Object:
        made: Object = {"id": new_id(prefix), "object": kind, "created": now_s(), "livemode": False, **fields}
        self.objects[kind][made["id"]] = made
        return made

    def emit(self, kind: str, subject: Object) -> None:
        """Log an event with a snapshot of its subject, and deliver it, unless its time is simulated."""
        event = self._add(
            "event", "evt", type=kind, api_version="2025-03-31", data={"object": copy.deepcopy(subject)}, request=None
        )
        if SIMULATED_S.get() is None:
            self.publish(self, event)

    def balance(self) -> Object:
        """Return the charges' amounts less refunds; disputes are ignored."""
        amounts: dict[str, int] = {}
        for charge in self.objects["charge"].values():
            held = charge["amount_captured"] - charge["amount_refunded"]
            amounts[charge["currency"]] = amounts.get(charge["currency"], 0) + held
        available = [{"amount": amount, "currency": currency} for currency, amount in sorted(amounts.items())]
        return {"object": "balance", "livemode": False, "available": available, "pending": []}

    # --- payment intents ---

    def create_intent(self, amount: int, currency: str, metadata: Object, email: str | None) -> Object:
        if currency.upper() not in CURRENCIES:
            raise invalid(f"Invalid currency: {currency}.", "currency")
        if not 1 <= amount <= 99_999_999 or amount % CURRENCIES[currency.upper()].step_minor:
            raise invalid("Invalid amount", "amount")
        if amount < CURRENCIES[currency.upper()].minimum_minor:
            raise invalid("Amount is below the minimum of its currency", "amount", "amount_too_small")
        intent = self._add(
            "payment_intent",
            "pi",
            amount=amount,
            amount_received=0,
            currency=currency,
            status="requires_payment_method",
            latest_charge=None,
            metadata=metadata,
            receipt_email=email,
            last_payment_error=None,
            canceled_at=None,
            cancellation_reason=None,
            payment_method=None,
            next_action=None,
        )
        intent["client_secret"] = f"{intent['id']}_secret_{secrets.token_hex(12)}"
        self.emit("payment_intent.created", intent)
        return intent

    def confirm(self, intent: Object, card: str) -> Object:
        """Pay with a card number or one of VOUCHERS, as far as possible. Raise a card error if it is declined."""
        if intent["status"] not in OPEN_INTENT:
            raise self._unexpected_state(intent, "confirm")
        if card in DECLINES:
            raise self._decline(intent, card)
        intent["payment_method"] = card
        if card == AUTHENTICATE or card in VOUCHERS:
            action = VOUCHERS.get(card, "use_stripe_sdk")
            intent |= {"status": "requires_action", "next_action": {"type": action, action: {}}}
            self.emit("payment_intent.requires_action", intent)
        elif card == PROCESSING:
            intent["status"] = "processing"
            self.emit("payment_intent.processing", intent)
        else:
            self.succeed(intent)
            if card == DISPUTE:
                self.open_dispute(intent)
        return intent

    def _decline(self, intent: Object, card: str) -> StripeError:
        charge = self._add_charge(intent, card, intent["amount"], intent["currency"], paid=False)
        error = {
            "type": "card_error",
            "code": "card_declined",
            "decline_code": DECLINES[card],
            "charge": charge["id"],
            "message": "Your card was declined.",
        }
        intent |= {"status": "requires_payment_method", "last_payment_error": error, "latest_charge": charge["id"]}
        self.emit("charge.failed", charge)
        self.emit("payment_intent.payment_failed", intent)
        more = {name: error[name] for name in ("code", "decline_code", "charge")}
        return StripeError(402, "card_error", error["message"], **more, payment_intent=copy.deepcopy(intent))

    def _add_charge(self, intent: Object, card: str, amount: int, currency: str, *, paid: bool) -> Object:
        return self._add(
            "charge",
            "ch",
            amount=amount,
            amount_captured=amount if paid else 0,
            amount_refunded=0,
            currency=currency,
            paid=paid,
            captured=paid,
            refunded=False,
            disputed=False,
            status="succeeded" if paid else "failed",
            failure_code=None if paid else "card_declined",
            payment_intent=intent["id"],
            metadata=dict(intent["metadata"]),
            payment_method_details=_details_of(card),
        )

    def succeed(self, intent: Object, *, received: int | None = None, currency: str | None = None) -> Object:
        """Receive the payment: the full amount, unless a test specifies otherwise."""
        if intent["status"] in ("succeeded", "canceled"):
            raise self._unexpected_state(intent, "complete")
        amount = intent["amount"] if received is None else received
        card = intent["payment_method"] or CARDS["pm_card_visa"]
        charge = self._add_charge(intent, card, amount, currency or intent["currency"], paid=True)
        intent |= {"status": "succeeded", "amount_received": amount, "latest_charge": charge["id"], "next_action": None}
        intent["currency"] = currency or intent["currency"]
        self.emit("charge.succeeded", charge)
        self.emit("payment_intent.succeeded", intent)
        return intent

    def fail(self, intent: Object) -> Object:
        """Fail an open payment, as when the bank or the customer rejects it later."""
        if intent["status"] in ("succeeded", "canceled"):
            raise self._unexpected_state(intent, "fail")
        error = {"type": "card_error", "code": "payment_intent_authentication_failure", "message": "Payment failed."}
        intent |= {"status": "requires_payment_method", "last_payment_error": error, "next_action": None}
        self.emit("payment_intent.payment_failed", intent)
        return intent

    def cancel(self, intent: Object) -> Object:
        if intent["status"] not in OPEN_INTENT:
            raise self._unexpected_state(intent, "cancel")
        intent |= {"status": "canceled", "canceled_at": now_s(), "next_action": None}
        self.emit("payment_intent.canceled", intent)
        return intent

    def _unexpected_state(self, intent: Object, verb: str) -> StripeError:
        message = f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}."
        return StripeError(
            400, "invalid_request_error", message, code="payment_intent_unexpected_state", payment_intent=dict(intent)
        )

    # --- refunds, disputes ---

    def charge_of(self, payment_intent_id: str) -> Object:
        charge_id = self.find("payment_intent", payment_intent_id)["latest_charge"]
        if charge_id is None or not self.find("charge", charge_id)["paid"]:
            raise invalid("This PaymentIntent does not have a successful charge.", "payment_intent")
        return self.find("charge", charge_id)

    def refund(
        self,
        charge: Object,
        amount: int | None,
        reason: str | None,
        status: str | None = None,
        metadata: Object | None = None,
    ) -> Object:
        """Start a refund. `status` None: by the test card, pending for one of them, else succeeded."""
        disputes = [d for d in self.objects["dispute"].values() if d["charge"] == charge["id"]]
        if any(dispute["status"] in ("needs_response", "under_review", "lost") for dispute in disputes):
            raise invalid(f"Charge {charge['id']} has been charged back.", "charge", "charge_disputed")
        left = charge["amount_captured"] - charge["amount_refunded"]
        amount = left if amount is None else amount
        if left == 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", "charge", "charge_already_refunded")
        if not 1 <= amount <= left:
            raise invalid(f"Refund amount is greater than unrefunded amount on charge ({left})", "amount")
        last4 = charge["payment_method_details"]["card"]["last4"]
        refund = self._add(
            "refund",
            "re",
            amount=amount,
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            status=status or ("pending" if last4 == PENDING_REFUND[-4:] else "succeeded"),
            failure_reason=None,
            reason=reason,
            metadata=metadata or {},
        )
        self._move_refunded(charge, amount)
        self.emit("refund.created", refund)
        self.emit("charge.refunded", charge)
        return refund

    def later_outcome(self, refund: Object) -> RefundOutcome | None:
        """Return the outcome that the test card gives a refund after a while. None: no further change."""
        last4 = self.find("charge", refund["charge"])["payment_method_details"]["card"]["last4"]
        if last4 == PENDING_REFUND[-4:] and refund["status"] == "pending":
            return "succeeded"
        return "failed" if last4 == FAILING_REFUND[-4:] and refund["status"] == "succeeded" else None

    def settle_refund(self, refund: Object, outcome: RefundOutcome) -> Object:
        """End a refund. One that succeeded can still fail later, when the bank returns the money.

        Money that did not reach the buyer belongs to the merchant again, so the charge counts as less refunded.
        """
        allowed = OPEN_REFUND + (("succeeded",) if outcome == "failed" else ())
        if refund["status"] not in allowed:
            raise invalid(f"This refund has a status of {refund['status']}.", "refund", "refund_unexpected_state")
        reasons = {"succeeded": None, "failed": "expired_or_canceled_card", "canceled": "merchant_request"}
        refund |= {"status": outcome, "failure_reason": reasons[outcome]}
        if outcome != "succeeded":
            self._move_refunded(self.find("charge", refund["charge"]), -refund["amount"])
        if outcome == "failed":
            self.emit("refund.failed", refund)
        self.emit("refund.updated", refund)
        self.emit("charge.refund.updated", refund)
        return refund

    def cancel_refund(self, refund: Object) -> Object:
        if refund["status"] != "requires_action":
            raise invalid("Only refunds with a status of requires_action can be canceled.", "refund")
        return self.settle_refund(refund, "canceled")

    def _move_refunded(self, charge: Object, amount: int) -> None:
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]

    def open_dispute(
        self, intent: Object, *, amount: int | None = None, inquiry: bool = False, prevented: CaseType | None = None
    ) -> Object:
        """Open a dispute. `prevented`: Stripe settles the case before it becomes a chargeback."""
        charge = self.charge_of(intent["id"])
        status = "prevented" if prevented else "warning_needs_response" if inquiry else "needs_response"
        dispute = self._add(
            "dispute",
            "du",
            amount=charge["amount"] if amount is None else amount,
            balance_transactions=[],
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=intent["id"],
            payment_method_details={"type": "card", "card": {"case_type": prevented or "chargeback"}},
            status=status,
            reason="fraudulent",
            metadata={},
        )
        charge["disputed"] = True
        self.emit("charge.dispute.created", dispute)
        if not inquiry and prevented != "block":
            self._move_disputed(dispute, withdrawn=True)
        return dispute

    def close_dispute(self, dispute: Object, outcome: Literal["won", "lost"]) -> Object:
        """Close a dispute. An inquiry, for which no money was withdrawn, closes without an outcome."""
        if dispute["status"] in CLOSED_DISPUTE:
            raise invalid("This dispute is closed already.", "dispute")
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_closed" if inquiry else outcome
        self.emit("charge.dispute.closed", dispute)
        if outcome == "won" and not inquiry:
            self._move_disputed(dispute, withdrawn=False)
        return dispute

    def redecide_dispute(self, dispute: Object) -> Object:
        """Reverse the issuer's decision, as after an appeal: lost becomes won, and won becomes lost."""
        if dispute["status"] not in ("won", "lost"):
            raise invalid("This dispute has not been decided.", "dispute")
        dispute["status"] = "lost" if dispute["status"] == "won" else "won"
        self.emit("charge.dispute.closed", dispute)
        self._move_disputed(dispute, withdrawn=dispute["status"] == "lost")
        return dispute

    def _move_disputed(self, dispute: Object, *, withdrawn: bool) -> None:
        amount = -dispute["amount"] if withdrawn else dispute["amount"]
        moved = {"object": "balance_transaction", "amount": amount, "currency": dispute["currency"]}
        dispute["balance_transactions"] = [*dispute.get("balance_transactions", []), moved]
        self.emit(f"charge.dispute.funds_{'withdrawn' if withdrawn else 'reinstated'}", dispute)
