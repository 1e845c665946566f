"""Pages of the local Stripe: pay with a test card, and list payments and webhook deliveries."""

from html import escape
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.currencies import info_of
from app.demo.stripe.cards import CARDS, VOUCHERS

router = APIRouter()
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1a1f36 }
button { font: inherit; display: block; width: 100%; margin: .4rem 0; padding: .6rem 1rem; text-align: left;
         border: 1px solid #c1c9d2; border-radius: .4rem; background: #fff; cursor: pointer }
button:hover { border-color: #635bff }
table { border-collapse: collapse; width: 100% } output { display: block; margin: 1rem 0 }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #e3e8ee; font-size: 14px }
"""
MEANING = {
    "pm_card_visa": "succeeds",
    "pm_card_mastercard": "succeeds",
    "pm_card_chargeDeclined": "is declined",
    "pm_card_chargeDeclinedInsufficientFunds": "is declined: insufficient funds",
    "pm_card_chargeDeclinedExpiredCard": "is declined: expired",
    "pm_card_chargeCustomerFail": "can be saved; payments are declined",
    "pm_card_authenticationRequired": "requires 3-D Secure, each time",
    "pm_card_authenticationRequiredOnSetup": "requires 3-D Secure; pays later without the buyer once saved",
    "pm_card_createDispute": "succeeds; is disputed immediately",
    "pm_card_processing": "stays in processing",
    "pm_card_pendingRefund": "succeeds; refunds stay pending",
    "pm_card_refundFail": "succeeds; refunds fail later",
}
SCRIPT = """
const data = document.body.dataset, output = document.querySelector("output"), bank = document.querySelector("#bank");
const words = {
  requires_action: "The buyer's bank requires a confirmation.",
  requires_payment_method: "The bank has declined. Choose another card.",
  processing: "The payment is on its way.",
};
function show(answer) {
  bank.hidden = !["requires_action", "processing"].includes(answer.status);
  output.textContent = answer.error ? answer.error.message : words[answer.status] ?? "Payment " + answer.status + ".";
  output.scrollIntoView();
  if ((answer.status === "succeeded" || answer.complete) && data.return) location = data.return;
}
for (const button of bank.querySelectorAll("button")) button.onclick = async () =>
  show(await (await fetch(data.bank + button.dataset.bank, {method: "POST"})).json());
for (const button of document.querySelectorAll("button[data-card]")) button.onclick = async () => {
  const form = new URLSearchParams({payment_method: button.dataset.card, client_secret: data.secret, key: data.key});
  show(await (await fetch(data.confirm, {method: "POST", body: form})).json());
};
"""


BANK = (
    "<div id=bank hidden><p>Act as the buyer's bank:</p>"
    "<button data-bank=succeed>Approve payment</button><button data-bank=fail>Decline payment</button></div>"
)


def page_of(title: str, body: str, attributes: str = "", status: int = 200) -> HTMLResponse:
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    style = f"<style>{STYLE}</style>"
    return HTMLResponse(f"<!doctype html><html lang=en>{head}{style}<body {attributes}>{body}</html>", status)


def buttons(*, only_cards: bool = False) -> str:
    """Return a button for each test card, and for each payment method that takes days."""
    cards = "".join(
        f"<button data-card={name}><b>{number[:4]} … {number[-4:]}</b> {MEANING[name]}</button>"
        for name, number in CARDS.items()
    )
    if only_cards:
        return cards
    return cards + "".join(
        f"<button data-card={name}><b>{name[3:].replace('_', ' ')}</b> pays after some days</button>"
        for name in VOUCHERS
    )


ClientSecret = Annotated[str, Query()]
ReturnUrl = Annotated[str, Query(max_length=2048)]


@router.get("/pay/{intent_id}")
async def pay(
    request: Request, intent_id: str, client_secret: ClientSecret = "", return_url: ReturnUrl = ""
) -> HTMLResponse:
    """Show the payment page. After the payment, the browser goes to `return_url` (http or https), as with Stripe.js."""
    return _intent_page(request, "payment_intent", intent_id, client_secret, return_url)


@router.get("/setup/{intent_id}")
async def setup(
    request: Request, intent_id: str, client_secret: ClientSecret = "", return_url: ReturnUrl = ""
) -> HTMLResponse:
    """Show the page that saves a card. Afterwards the browser goes to `return_url`, as with Stripe.js."""
    return _intent_page(request, "setup_intent", intent_id, client_secret, return_url)


def _intent_page(request: Request, kind: str, intent_id: str, client_secret: str, return_url: str) -> HTMLResponse:
    for account in request.app.state.local.accounts.values():
        intent = account.objects[kind].get(intent_id)
        if intent is None or intent["client_secret"] != client_secret:
            continue
        attributes = (
            f'data-secret="{escape(client_secret)}" data-key="{escape(account.config.publishable_key)}" '
            f'data-confirm="/v1/{kind}s/{escape(intent_id)}/confirm" '
            f'data-bank="/_control/{kind}s/{escape(intent_id)}/" '
            f'data-return="{escape(_returning(return_url, kind, intent_id, client_secret))}"'
        )
        heading, only_cards = "Save a card", True
        if kind == "payment_intent":
            heading, only_cards = f"Pay {info_of(intent['currency'].upper()).format(intent['amount'])}", False
        intro = f"<h1>{heading}</h1><p>Choose a test card. No real payment is made.</p>"
        bank = BANK.replace(" hidden", "") if intent["status"] == "requires_action" else BANK
        body = f"{intro}{buttons(only_cards=only_cards)}<output></output>{bank}"
        return page_of("Pay", f"{body}<script>{SCRIPT}</script>", attributes)
    reason = "The payment id or the client secret in the address is not valid. Open the link from the agent again."
    return page_of("Not found", f"<h1>Payment not found</h1><p>{reason}</p>", status=404)


def _returning(url: str, kind: str, intent_id: str, client_secret: str) -> str:
    """Return the URL with the parameters that Stripe adds; empty if it is not an http or https URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    added = {
        kind: intent_id,
        f"{kind}_client_secret": client_secret,
        "redirect_status": "succeeded",
    }
    return parts._replace(query="&".join(filter(None, (parts.query, urlencode(added))))).geturl()


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row.get(column, '')))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


@router.get("/")
async def overview(request: Request) -> HTMLResponse:
    local = request.app.state.local
    intents = [i for account in local.accounts.values() for i in account.objects["payment_intent"].values()]
    body = "<h1>Local Stripe</h1><p>Simulates Stripe on this machine. No real payments are made.</p><h2>Payments</h2>"
    body += _table(("id", "status", "amount", "amount_received", "currency"), intents[::-1][:50]) or "<p>None yet.</p>"
    subscriptions = [s for account in local.accounts.values() for s in account.objects["subscription"].values()]
    if subscriptions:
        columns = ("id", "status", "customer", "cancel_at_period_end")
        body += f"<h2>Subscriptions</h2>{_table(columns, subscriptions[::-1][:50])}"
    body += "<h2>Webhook deliveries</h2>"
    body += _table(("event_id", "type", "attempt", "outcome"), local.deliverer.listed()[::-1][:50])
    return page_of("Local Stripe", body)
