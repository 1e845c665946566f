"""Invoices of subscriptions: draft, open, paid or void, and their payments."""

from typing import TYPE_CHECKING

from app.currencies import info_of
from app.demo.stripe import payment_methods
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import flag
from app.demo.stripe.objects import Object, StripeError, at, invalid, now_s
from app.demo.stripe.store import PRIVATE, Store

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

INVOICE, INVOICE_PAYMENT = "invoice", "invoice_payment"
DAY_S = 86_400

UNSET = (
    "automatically_finalizes_at",
    "default_payment_method",
    "description",
    "due_date",
    "effective_at",
    "hosted_invoice_url",
    "invoice_pdf",
    "next_payment_attempt",
    "number",
)
ZERO = (
    "amount_overpaid",
    "amount_paid",
    "amount_shipping",
    "attempt_count",
    "post_payment_credit_notes_amount",
    "pre_payment_credit_notes_amount",
)
"""Fields of a new invoice without a value, and those of value 0."""


def subscription_of(invoice: Object) -> str:
    subscription: str = invoice["parent"]["subscription_details"]["subscription"]
    return subscription


def draft(
    account: Store,
    subscription: Object,
    lines: list[Object],
    reason: str,
    period: tuple[int, int] | None = None,
    *,
    advances: bool = True,
) -> Object:
    """Create a draft. `period`: the period that ends with a renewal. `advances`: it is finalized automatically."""
    invoice = account.add(INVOICE, "in", **body(account, subscription, lines, reason, period, now_s()))
    invoice["auto_advance"] = advances
    if period is not None and advances:
        invoice["automatically_finalizes_at"] = now_s() + account.billing.finalize_after_s
    for item in lines:
        item["invoice"] = invoice["id"]
    invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
    account.private(invoice).update(retries=0, automatic=False, intent=None)
    account.private(subscription)["invoices"].append(invoice["id"])
    account.emit("invoice.created", invoice)
    return invoice


def body(
    account: Store,
    subscription: Object,
    lines: list[Object],
    reason: str,
    period: tuple[int, int] | None,
    at_s: int,
) -> Object:
    """Return the fields of an invoice that is not finalized."""
    customer = account.find("customer", subscription["customer"])
    start, end = period or (at_s, at_s)
    total = sum(item["amount"] for item in lines)
    return {
        **dict.fromkeys(UNSET),
        **dict.fromkeys(ZERO, 0),
        "account_country": "US",
        "account_name": "Local Stripe",
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "status": None},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "currency": subscription["currency"],
        "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "discounts": [],
        "lines": {"object": "list", "data": lines, "has_more": False, "url": "/v1/invoices/upcoming/lines"},
        "metadata": {},
        "parent": {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription["metadata"]),
                "subscription": subscription["id"],
                "subscription_proration_date": None,
            },
        },
        "period_end": end,
        "period_start": start,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": customer["test_clock"],
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_taxes": [],
        **_balances(customer["balance"], total, subscription["currency"]),
    }


def _balances(balance: int, total: int, currency: str) -> Object:
    """Return what the customer's balance leaves to pay. Amounts below the minimum go to the balance."""
    after = balance + total
    due = max(after, 0)
    if due < info_of(currency.upper()).minimum_minor:
        due = 0
    ending = after - due
    return {"starting_balance": balance, "ending_balance": ending, "amount_due": due, "amount_remaining": due}


def finalize(account: "Account", invoice: Object) -> Object:
    """Open a draft, and create its payment. An invoice without an amount due is paid. Raises StripeError."""
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.", "invoice")
    customer = account.find("customer", invoice["customer"])
    balances = _balances(customer["balance"], invoice["total"], invoice["currency"])
    invoice |= balances
    invoice |= {"status": "open", "effective_at": now_s(), "automatically_finalizes_at": None}
    invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
    invoice["status_transitions"]["finalized_at"] = now_s()
    invoice["hosted_invoice_url"] = f"{account.base_url}/i/{invoice['id']}"
    account.emit("invoice.finalized", invoice)
    sequence = {"next_invoice_sequence": customer["next_invoice_sequence"] + 1}
    account.change(customer, "customer.updated", {"balance": invoice["ending_balance"], **sequence})
    if invoice["amount_due"] == 0:
        return mark_paid(account, invoice)
    text = "Subscription creation" if invoice["billing_reason"] == "subscription_create" else "Subscription update"
    intent = account.create_intent(
        invoice["amount_due"],
        invoice["currency"],
        {},
        None,
        customer=customer["id"],
        description=text,
        setup_future_usage="off_session",
    )
    account.private(intent)["invoice"] = invoice["id"]
    account.private(invoice)["intent"] = intent["id"]
    payment = account.add(
        INVOICE_PAYMENT,
        "inpay",
        amount_paid=None,
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )
    account.private(invoice)["payment"] = payment["id"]
    return invoice


def payments_of(account: Store, invoice: Object) -> list[Object]:
    payment_id = account.private(invoice).get("payment")
    return [] if payment_id is None else [account.find(INVOICE_PAYMENT, payment_id)]


def intent_of(account: Store, invoice: Object) -> Object | None:
    intent_id = account.private(invoice).get("intent")
    return None if intent_id is None else account.find("payment_intent", intent_id)


def method_of(account: Store, invoice: Object) -> Object | None:
    """Return the payment method that pays an invoice: the subscription's, or the customer's default."""
    subscription = account.find("subscription", subscription_of(invoice))
    customer = account.find("customer", invoice["customer"])
    chosen = subscription["default_payment_method"]
    chosen = chosen or customer["invoice_settings"]["default_payment_method"]
    return None if chosen is None else account.find("payment_method", chosen)


def collect(account: "Account", invoice: Object, method: Object | None = None) -> StripeError | None:
    """Try to pay an open invoice without the buyer. Return the error of a payment that failed."""
    intent = intent_of(account, invoice)
    if intent is None or invoice["status"] != "open" or intent["status"] == "processing":
        return None
    method = method or method_of(account, invoice)
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    account.private(invoice)["automatic"] = True
    try:
        if method is None:
            _failed(account, invoice)
            message = "There is no default_payment_method set on this Subscription or Customer."
            return StripeError(402, "invalid_request_error", message, code="missing_payment_method")
        account.confirm(intent, method, off_session=True)
    except StripeError as error:
        return error
    finally:
        account.private(invoice)["automatic"] = False
    return None


def follow(account: "Account", event: str, intent: Object) -> None:
    """Move the invoice of a payment that has changed."""
    if not event.startswith("payment_intent."):
        return
    invoice_id = account.objects[PRIVATE].get(intent["id"], {}).get("invoice")
    if invoice_id is None:
        return
    invoice = account.find(INVOICE, invoice_id)
    if invoice["status"] != "open":
        return
    with at(time_of(account, invoice["customer"])):
        if event == "payment_intent.succeeded":
            mark_paid(account, invoice)
        elif event == "payment_intent.requires_action":
            account.emit("invoice.payment_action_required", invoice)
            if account.private(invoice)["automatic"]:
                _failed(account, invoice)
        elif event == "payment_intent.payment_failed":
            _failed(account, invoice)


def _failed(account: "Account", invoice: Object) -> None:
    """Schedule the next attempt of a renewal, and emit the failure."""
    kept = account.private(invoice)
    if kept["automatic"] and invoice["billing_reason"] != "subscription_create":
        days = account.billing.retry_days
        retries = kept["retries"]
        invoice["next_payment_attempt"] = now_s() + days[retries] * DAY_S if retries < len(days) else None
        kept |= {"retries": retries + 1, "exhausted": retries >= len(days)}
    account.emit("invoice.payment_failed", invoice)


def mark_paid(account: Store, invoice: Object, *, out_of_band: bool = False) -> Object:
    intent = None if out_of_band else intent_of(account, invoice)
    paid = 0 if out_of_band else invoice["amount_due"]
    transitions = {**invoice["status_transitions"], "paid_at": now_s()}
    changed = {
        "status": "paid",
        "attempted": True,
        "auto_advance": False,
        "amount_paid": paid,
        "amount_remaining": 0,
        "next_payment_attempt": None,
        "status_transitions": transitions,
    }
    account.change(invoice, "invoice.updated", changed)
    account.emit("invoice.paid", invoice)
    for payment in payments_of(account, invoice):
        if intent is not None and payment["status"] == "open":
            payment |= {"status": "paid", "amount_paid": intent["amount_received"]}
            payment["status_transitions"]["paid_at"] = now_s()
            account.emit("invoice_payment.paid", payment)
    account.emit("invoice.payment_succeeded", invoice)
    return invoice


def pay(account: "Account", invoice: Object, form: Object) -> Object:
    """Pay as on request of the merchant. Raises StripeError, also if the card is declined."""
    with at(time_of(account, invoice["customer"])):
        if invoice["status"] == "draft":
            finalize(account, invoice)
        if invoice["status"] != "open":
            raise invalid(f"Invoice is already {invoice['status']}.", "invoice", "invoice_not_editable")
        if flag(form, "paid_out_of_band"):
            if (intent := intent_of(account, invoice)) is not None:
                account.cancel(intent)
            return mark_paid(account, invoice, out_of_band=True)
        method = None
        if form.get("payment_method"):
            method = payment_methods.named(account, form["payment_method"])
            payment_methods.usable(account, method, invoice["customer"])
        error = collect(account, invoice, method)
        if error is not None:
            raise error
        intent = intent_of(account, invoice)
        if intent is not None and intent["status"] == "requires_action":
            message = "This payment requires additional user action before it can be completed successfully."
            raise StripeError(402, "card_error", message, code="invoice_payment_intent_requires_action")
        return invoice


def void(account: "Account", invoice: Object) -> Object:
    with at(time_of(account, invoice["customer"])):
        if invoice["status"] not in ("open", "uncollectible"):
            raise invalid(f"You can only void open invoices. This one is {invoice['status']}.", "invoice")
        invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None}
        invoice["status_transitions"]["voided_at"] = now_s()
        for payment in payments_of(account, invoice):
            payment |= {"status": "canceled"}
            payment["status_transitions"]["canceled_at"] = now_s()
        intent = intent_of(account, invoice)
        if intent is not None and intent["status"].startswith("requires_"):
            account.cancel(intent)
        account.emit("invoice.voided", invoice)
        return invoice


def discard(account: "Account", subscription: Object) -> None:
    """Forget the latest invoice, and the events of `led_by`: the change that it bills did not happen."""
    invoice = account.find(INVOICE, subscription["latest_invoice"])
    if (intent := intent_of(account, invoice)) is not None:
        account.private(intent)["invoice"] = None
        account.cancel(intent)
    account.drop_led()
    for payment in payments_of(account, invoice):
        del account.objects[INVOICE_PAYMENT][payment["id"]]
    account.private(subscription)["invoices"].remove(invoice["id"])
    del account.objects[INVOICE][invoice["id"]]


def finalize_now(account: "Account", invoice: Object) -> Object:
    """Finalize on request, without collecting."""
    with at(time_of(account, invoice["customer"])):
        return finalize(account, invoice)
