"""One Stripe account: its payments, and what `Disputes` and `Store` add. No HTTP here."""

import copy
import secrets
from urllib.parse import urlencode

from app.currencies import CURRENCIES
from app.demo.stripe import payment_methods
from app.demo.stripe.cards import CARDS, DECLINES, DISPUTE, PROCESSING, VOUCHERS, details_of, needs_authentication
from app.demo.stripe.disputes import Disputes
from app.demo.stripe.objects import Object, StripeError, invalid, real_now_s
from app.demo.stripe.store import API_VERSION, AccountConfig, Remembered

__all__ = ["API_VERSION", "Account", "AccountConfig", "Remembered"]

OPEN_INTENT = ("requires_payment_method", "requires_confirmation", "requires_action")
AUTHENTICATION_REQUIRED = {"code": "authentication_required", "decline_code": "authentication_required"}


class Account(Disputes):
    """An account's payments."""

    def create_intent(
        self, amount: int, currency: str, metadata: Object, email: str | None, **more: str | None
    ) -> Object:
        """Create a payment. `more`: customer, description, payment_method, setup_future_usage."""
        if currency.upper() not in CURRENCIES:
            raise invalid(f"Invalid currency: {currency}.", "currency")
        if not 1 <= amount <= 99_999_999 or amount % CURRENCIES[currency.upper()].step_minor:
            raise invalid("Invalid amount", "amount")
        if amount < CURRENCIES[currency.upper()].minimum_minor:
            raise invalid("Amount is below the minimum of its currency", "amount", "amount_too_small")
        method = more.get("payment_method")
        intent = self.add(
            "payment_intent",
            "pi",
            amount=amount,
            amount_received=0,
            currency=currency,
            customer=more.get("customer"),
            description=more.get("description"),
            status="requires_payment_method" if method is None else "requires_confirmation",
            latest_charge=None,
            metadata=metadata,
            receipt_email=email,
            setup_future_usage=more.get("setup_future_usage"),
            last_payment_error=None,
            canceled_at=None,
            cancellation_reason=None,
            payment_method=method,
            payment_method_types=["card"],
            next_action=None,
        )
        intent["client_secret"] = f"{intent['id']}_secret_{secrets.token_hex(12)}"
        self.emit("payment_intent.created", intent)
        return intent

    def confirm(
        self, intent: Object, method: Object, *, off_session: bool = False, return_url: str | None = None
    ) -> Object:
        """Pay as far as possible. Raise a card error if the card is declined.

        `off_session`: the buyer cannot authenticate, so a card that requires it is declined. An invoice's payment waits
        for the buyer instead.
        """
        if intent["status"] not in OPEN_INTENT:
            raise self._unexpected_state(intent, "confirm")
        payment_methods.usable(self, method, intent["customer"])
        kept = self.private(method)
        number = kept["number"]
        if number in DECLINES:
            raise self._decline(intent, method, payment_methods.decline_codes(number))
        authenticates = needs_authentication(number, off_session=off_session, set_up=kept["set_up"])
        if authenticates and off_session and self.private(intent).get("invoice") is None:
            raise self._decline(intent, method, AUTHENTICATION_REQUIRED)
        intent["payment_method"] = method["id"]
        if authenticates or number in VOUCHERS:
            intent |= {"status": "requires_action", "next_action": self._next_action(intent, number, return_url)}
            self.emit("payment_intent.requires_action", intent)
        elif number == PROCESSING:
            intent["status"] = "processing"
            self.emit("payment_intent.processing", intent)
        else:
            self.succeed(intent)
            if number == DISPUTE:
                self.open_dispute(intent)
        return intent

    def _next_action(self, intent: Object, number: str, return_url: str | None) -> Object:
        action = VOUCHERS.get(number, "redirect_to_url" if return_url else "use_stripe_sdk")
        if action != "redirect_to_url":
            return {"type": action, action: {}}
        query = urlencode({"client_secret": intent["client_secret"], "return_url": return_url})
        target = {"url": f"{self.base_url}/pay/{intent['id']}?{query}", "return_url": return_url}
        return {"type": action, action: target}

    def _decline(self, intent: Object, method: Object, codes: Object) -> StripeError:
        charge = self._add_charge(intent, method, intent["amount"], intent["currency"], failure=codes["code"])
        reason = "requires authentication" if codes is AUTHENTICATION_REQUIRED else "was declined"
        error = {
            "type": "card_error",
            **codes,
            "charge": charge["id"],
            "message": f"Your card {reason}.",
            "payment_method": copy.deepcopy(method),
        }
        changed = {"last_payment_error": error, "latest_charge": charge["id"], "payment_method": None}
        intent |= {"status": "requires_payment_method", "next_action": None, **changed}
        self.emit("charge.failed", charge)
        self.emit("payment_intent.payment_failed", intent)
        more = {name: error[name] for name in ("code", "decline_code", "charge", "payment_method")}
        return StripeError(402, "card_error", str(error["message"]), **more, payment_intent=copy.deepcopy(intent))

    def _add_charge(
        self, intent: Object, method: Object, amount: int, currency: str, *, failure: str | None = None
    ) -> Object:
        paid = failure is None
        charge = self.add(
            "charge",
            "ch",
            amount=amount,
            amount_captured=amount if paid else 0,
            amount_refunded=0,
            currency=currency,
            customer=intent["customer"],
            paid=paid,
            captured=paid,
            refunded=False,
            disputed=False,
            status="succeeded" if paid else "failed",
            failure_code=failure,
            payment_intent=intent["id"],
            payment_method=method["id"],
            metadata=dict(intent["metadata"]),
            payment_method_details=details_of(payment_methods.number_of(self, method)),
        )
        charge["receipt_url"] = f"{self.base_url}/receipts/{charge['id']}" if paid else None
        return charge

    def succeed(self, intent: Object, *, received: int | None = None, currency: str | None = None) -> Object:
        """Receive the payment: the full amount, unless a test specifies otherwise."""
        if intent["status"] in ("succeeded", "canceled"):
            raise self._unexpected_state(intent, "complete")
        amount = intent["amount"] if received is None else received
        if intent["payment_method"] is None:
            intent["payment_method"] = payment_methods.make(self, CARDS["pm_card_visa"])["id"]
        method = self.find("payment_method", intent["payment_method"])
        charge = self._add_charge(intent, method, amount, currency or intent["currency"])
        intent |= {"status": "succeeded", "amount_received": amount, "latest_charge": charge["id"], "next_action": None}
        intent["currency"] = currency or intent["currency"]
        if intent["setup_future_usage"] is not None and intent["customer"] is not None:
            payment_methods.save(self, method, intent["customer"])
            self.private(method)["set_up"] = intent["setup_future_usage"] == "off_session"
        self.emit("charge.succeeded", charge)
        self.emit("payment_intent.succeeded", intent)
        return intent

    def fail(self, intent: Object) -> Object:
        """Fail an open payment, as when the bank or the customer rejects it later."""
        if intent["status"] in ("succeeded", "canceled"):
            raise self._unexpected_state(intent, "fail")
        error = {"type": "card_error", "code": "payment_intent_authentication_failure", "message": "Payment failed."}
        intent |= {"status": "requires_payment_method", "last_payment_error": error, "next_action": None}
        intent["payment_method"] = None
        self.emit("payment_intent.payment_failed", intent)
        return intent

    def cancel(self, intent: Object) -> Object:
        if intent["status"] not in OPEN_INTENT:
            raise self._unexpected_state(intent, "cancel")
        intent |= {"status": "canceled", "canceled_at": real_now_s(), "next_action": None}
        self.emit("payment_intent.canceled", intent)
        return intent

    def _unexpected_state(self, intent: Object, verb: str) -> StripeError:
        message = f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}."
        return StripeError(
            400, "invalid_request_error", message, code="payment_intent_unexpected_state", payment_intent=dict(intent)
        )
