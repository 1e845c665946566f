"""The page of the billing portal, and the page of an invoice that waits for its buyer."""

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.currencies import info_of
from app.demo.stripe import invoices, portal, products, setup_intents
from app.demo.stripe.account import Account
from app.demo.stripe.forms import is_url
from app.demo.stripe.objects import Object, StripeError
from app.demo.stripe.page import BANK, SCRIPT, buttons, page_of
from app.demo.stripe.periods import day_of

router = APIRouter()
Secret = Annotated[str, Query(max_length=255)]


def _session(request: Request, session_id: str, secret: str) -> tuple[Account, Object]:
    """Return the session and its account. Raises StripeError."""
    for account in request.app.state.local.accounts.values():
        if session_id in account.objects[portal.PORTAL]:
            return account, portal.find(account, session_id, secret)
    raise StripeError(404, "invalid_request_error", "No such portal session", code="resource_missing")


@router.get("/p/session/{session_id}")
async def show(request: Request, session_id: str, secret: Secret = "") -> HTMLResponse:
    """Show the customer's subscriptions, and the buttons that change them."""
    try:
        account, session = _session(request, session_id, secret)
    except StripeError:
        return page_of("Not found", "<h1>Session not found</h1><p>Open the billing portal again.</p>", status=404)
    base = f"/p/session/{escape(session_id)}"
    body = "<h1>Billing</h1>"
    for subscription in portal.subscriptions_of(account, session):
        body += _subscription(account, subscription, base, secret)
    body += f"<h2>Change the card</h2>{buttons(only_cards=True)}<output></output>{BANK}"
    back = session["return_url"] or ""
    if is_url(back) and back.startswith(("http://", "https://")):
        body += f'<p><a id=return href="{escape(back)}">Return</a></p>'
    attributes = (
        f'data-secret="{escape(secret)}" data-key="" data-return="" '
        f'data-confirm="{base}/card?secret={escape(secret)}" data-bank="{base}/bank/" '
    )
    return page_of("Billing", f"{body}<script>{SCRIPT}</script>", attributes)


def _subscription(account: Account, subscription: Object, base: str, secret: str) -> str:
    item = subscription["items"]["data"][0]
    price = info_of(item["price"]["currency"].upper()).format(item["price"]["unit_amount"])
    canceling = subscription["cancel_at"] is not None
    verb, label = ("resume", "Resume subscription") if canceling else ("cancel", "Cancel subscription")
    when = f"{'Ends' if canceling else 'Renews'} on {day_of(item['current_period_end'])}"
    name = escape(products.name_of(account, item["price"]))
    action = f"{base}/{escape(subscription['id'])}/{verb}?secret={escape(secret)}"
    return (
        f"<h2>{name}</h2><p>{price} each {item['price']['recurring']['interval']}. "
        f"Status: {subscription['status']}. {when}.</p>"
        f"<form method=post action='{action}'><button>{label}</button></form>"
    )


@router.post("/p/session/{session_id}/card")
async def card(
    request: Request, session_id: str, payment_method: Annotated[str, Form()], secret: Secret = ""
) -> dict[str, Any]:
    account, session = _session(request, session_id, secret)
    intent = portal.change_card(account, session, payment_method)
    account.private(session)["setup_intent"] = intent["id"]
    request.app.state.local.changed.set()
    return {"status": intent["status"]}


@router.post("/p/session/{session_id}/bank/{decision}")
async def bank(request: Request, session_id: str, decision: str) -> dict[str, Any]:
    """Act as the bank of the buyer whose new card requires 3-D Secure."""
    for account in request.app.state.local.accounts.values():
        if session_id in account.objects[portal.PORTAL]:
            kept = account.private(account.objects[portal.PORTAL][session_id])
            intent = account.find("setup_intent", kept.get("setup_intent", ""))
            (setup_intents.succeed if decision == "succeed" else setup_intents.fail)(account, intent)
            request.app.state.local.changed.set()
            return {"status": intent["status"]}
    raise StripeError(404, "invalid_request_error", "No such portal session", code="resource_missing")


@router.post("/p/session/{session_id}/{subscription_id}/{verb}")
async def decide(request: Request, session_id: str, subscription_id: str, verb: str, secret: Secret = "") -> Response:
    """Cancel a subscription at the end of its period, or resume it."""
    account, session = _session(request, session_id, secret)
    if verb not in ("cancel", "resume"):
        raise StripeError(404, "invalid_request_error", f"The portal cannot {verb}.")
    portal.set_canceling(account, session, subscription_id, canceling=verb == "cancel")
    request.app.state.local.changed.set()
    return RedirectResponse(session["url"], 303)


@router.get("/i/{invoice_id}")
async def invoice(request: Request, invoice_id: str) -> Response:
    """Lead the buyer of an open invoice to the page that pays it."""
    for account in request.app.state.local.accounts.values():
        found = account.objects["invoice"].get(invoice_id)
        if found is not None:
            intent = invoices.intent_of(account, found)
            if found["status"] == "open" and intent is not None:
                return RedirectResponse(f"/pay/{intent['id']}?client_secret={intent['client_secret']}", 303)
            total = info_of(found["currency"].upper()).format(found["total"])
            return page_of(
                "Invoice", f"<h1>Invoice {escape(str(found['number']))}</h1><p>{total}, {found['status']}</p>"
            )
    return page_of("Not found", "<h1>Invoice not found</h1>", status=404)
