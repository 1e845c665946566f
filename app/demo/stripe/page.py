"""Pages of the local Stripe: pay with a test card, and list payments and deliveries."""

from html import escape
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.currencies import info_of
from app.demo.stripe.account import CARDS, VOUCHERS

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
    "pm_card_chargeDeclined": "is declined",
    "pm_card_chargeDeclinedInsufficientFunds": "is declined: insufficient funds",
    "pm_card_authenticationRequired": "requires 3-D Secure",
    "pm_card_createDispute": "succeeds, and is disputed immediately",
    "pm_card_processing": "stays in processing",
    "pm_card_pendingRefund": "succeeds; its refund stays pending",
    "pm_card_refundFail": "succeeds; its refund fails later",
}
SCRIPT = """
const data = document.body.dataset, output = document.querySelector("output"), bank = document.querySelector("#bank");
function show(answer) {
  bank.hidden = !["requires_action", "processing"].includes(answer.status);
  output.textContent = answer.error ? answer.error.message : "Payment " + answer.status + ".";
  if (answer.status === "succeeded" && data.return) location = data.return;
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
    "<button data-bank=succeed>Approve payment</button><button data-bank=fail>Reject payment</button></div>"
)


def _page(title: str, body: str, attributes: str = "", status: int = 200) -> HTMLResponse:
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    style = f"<style>{STYLE}</style>"
    return HTMLResponse(f"<!doctype html><html lang=en>{head}{style}<body {attributes}>{body}</html>", status)


@router.get("/pay/{intent_id}")
async def pay(
    request: Request,
    intent_id: str,
    client_secret: Annotated[str, Query()] = "",
    return_url: Annotated[str, Query(max_length=2048)] = "",
) -> HTMLResponse:
    """Show the payment page. `return_url`: the browser's next page after payment, as in Stripe.js; http(s) only."""
    for account in request.app.state.local.accounts.values():
        intent = account.objects["payment_intent"].get(intent_id)
        if intent is not None and intent["client_secret"] == client_secret:
            price = info_of(intent["currency"].upper()).format(intent["amount"])
            buttons = "".join(
                f"<button data-card={name}><b>{number[:4]} … {number[-4:]}</b> {MEANING[name]}</button>"
                for name, number in CARDS.items()
            )
            buttons += "".join(
                f"<button data-card={name}><b>{name[3:].replace('_', ' ')}</b> paid days later</button>"
                for name in VOUCHERS
            )
            attributes = (
                f'data-secret="{escape(client_secret)}" data-key="{escape(account.config.publishable_key)}" '
                f'data-confirm="/v1/payment_intents/{escape(intent_id)}/confirm" '
                f'data-bank="/_control/payment_intents/{escape(intent_id)}/" '
                f'data-return="{escape(_returning(return_url, intent_id, client_secret))}"'
            )
            body = f"<h1>Pay {price}</h1><p>Choose a test card. No money moves.</p>{buttons}<output></output>{BANK}"
            return _page("Pay", f"{body}<script>{SCRIPT}</script>", attributes)
    reason = "The URL lacks the payment's id or its client secret."
    return _page("Not found", f"<h1>No such payment</h1><p>{reason}</p>", status=404)


def _returning(url: str, intent_id: str, client_secret: str) -> str:
    """Return the URL with the parameters that Stripe adds; empty if it is not safe to send a browser there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    added = {
        "payment_intent": intent_id,
        "payment_intent_client_secret": client_secret,
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
    body = "<h1>Local Stripe</h1><p>A simulated Stripe on this machine. No money moves.</p><h2>Payments</h2>"
    body += _table(("id", "status", "amount", "amount_received", "currency"), intents[::-1][:50]) or "<p>None yet.</p>"
    body += "<h2>Webhook deliveries</h2>"
    body += _table(("event_id", "type", "attempt", "outcome"), local.deliverer.listed()[::-1][:50])
    return _page("Local Stripe", body)
