"""Hosted pages of the local Stripe: pay a checkout session, and a charge's receipt."""

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from app.currencies import info_of
from app.demo.stripe import checkout, setup_intents
from app.demo.stripe.account import Account
from app.demo.stripe.objects import Object, StripeError
from app.demo.stripe.page import BANK, SCRIPT, buttons, page_of
from app.demo.stripe.store import SESSION

router = APIRouter()
ENDED = {"complete": "This payment is complete or on its way.", "expired": "This checkout session has expired."}


def _session(request: Request, session_id: str) -> tuple[Account, Object]:
    """Return the session and its account. Raises StripeError."""
    for account in request.app.state.local.accounts.values():
        if session_id in account.objects[SESSION]:
            return account, checkout.find(account, session_id)
    raise StripeError(404, "invalid_request_error", "No such checkout session", code="resource_missing")


@router.get("/c/pay/{session_id}")
async def pay(request: Request, session_id: str) -> HTMLResponse:
    """Show the page that takes the payment. The buyer's bank is part of it."""
    try:
        account, session = _session(request, session_id)
    except StripeError:
        return page_of("Not found", "<h1>Checkout session not found</h1><p>Begin the purchase again.</p>", status=404)
    title = f"<h1>{escape(checkout.product_of(account, session))}</h1>"
    if session["mode"] != "setup":
        price = info_of(session["currency"].upper()).format(session["amount_total"])
        title += f"<p id=price>{price}{checkout.interval_of(account, session)}</p>"
    attributes = (
        f'data-secret="" data-key="" data-confirm="/c/pay/{escape(session_id)}/confirm" '
        f'data-bank="/c/pay/{escape(session_id)}/bank/" '
        f'data-return="{escape(_returning(session["success_url"], session_id))}"'
    )
    cards = buttons(only_cards=session["mode"] != "payment")
    body = f"{title}<p>Choose a test card. No real payment is made.</p>{cards}<output></output>{BANK}"
    if session["status"] != "open":
        waits = session["status"] == "complete" and session["payment_status"] == "unpaid"
        body = f"{title}<p>{ENDED[session['status']]}</p><output></output>"
        body += BANK.replace(" hidden", "") if waits else BANK
    elif session["cancel_url"]:
        body += (
            f'<p><a id=cancel href="{escape(_returning(session["cancel_url"], session_id))}">Cancel and return</a></p>'
        )
    return page_of("Checkout", f"{body}<script>{SCRIPT}</script>", attributes)


def _returning(url: str, session_id: str) -> str:
    """Return an address with the session's id in its place; empty unless it is http or https."""
    return url.replace("{CHECKOUT_SESSION_ID}", session_id) if url.startswith(("http://", "https://")) else ""


@router.post("/c/pay/{session_id}/confirm")
async def confirm(request: Request, session_id: str, payment_method: Annotated[str, Form()]) -> Object:
    account, session = _session(request, session_id)
    intent = checkout.pay(account, session, payment_method)
    request.app.state.local.changed.set()
    return _progress(session, intent)


@router.post("/c/pay/{session_id}/bank/{decision}")
async def bank(request: Request, session_id: str, decision: str) -> Object:
    """Act as the buyer's bank, during 3-D Secure or days later."""
    account, session = _session(request, session_id)
    intent = checkout.intent_of(account, session)
    if intent["object"] == "setup_intent":
        (setup_intents.succeed if decision == "succeed" else setup_intents.fail)(account, intent)
    else:
        (account.succeed if decision == "succeed" else account.fail)(intent)
    request.app.state.local.changed.set()
    return _progress(session, intent)


def _progress(session: Object, intent: Object) -> dict[str, Any]:
    return {"status": intent["status"], "complete": session["status"] == "complete"}


@router.get("/billing/{outcome}")
async def returned(outcome: str) -> HTMLResponse:
    """Show the page of a web app to which the hosted page returns in the demo."""
    done = "Payment complete. The money is in the balance once it has arrived." if outcome == "success" else "Not paid."
    return page_of("Back from checkout", f"<h1>{done}</h1><p>Close this page and return to the agent.</p>")


@router.get("/receipts/{charge_id}")
async def receipt(request: Request, charge_id: str) -> HTMLResponse:
    for account in request.app.state.local.accounts.values():
        if charge_id in account.objects["charge"]:
            charge = account.objects["charge"][charge_id]
            paid = info_of(charge["currency"].upper()).format(charge["amount_captured"])
            back = info_of(charge["currency"].upper()).format(charge["amount_refunded"])
            return page_of("Receipt", f"<h1>Receipt</h1><p>Paid: {paid}</p><p>Refunded: {back}</p>")
    return page_of("Not found", "<h1>Receipt not found</h1>", status=404)
