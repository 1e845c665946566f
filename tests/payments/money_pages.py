"""Pages of Stripe on which money is bought: opened, paid, and read back."""

from typing import Any
from uuid import UUID

from app.demo.stripe.cards import VOUCHERS
from app.payments.orders import RequestedMoney
from app.payments.service import CheckoutPage
from tests.payments.conftest import Shop

SESSIONS = "checkout/sessions"
COMPLETED, EXPIRED = "checkout.session.completed", "checkout.session.expired"
LATER_PAID, LATER_FAILED = "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed"
SUCCEEDED = "payment_intent.succeeded"
DELAYED = ("pm_card_processing", *VOUCHERS)


def order(minor: int = 2500, field: str = "amount_usd", **urls: str) -> RequestedMoney:
    given = {"success_url": "https://app.example/ok", "cancel_url": "https://app.example/no", **urls}
    return RequestedMoney(minor, field, "user-1", **given)


async def click(shop: Shop, account_id: UUID, minor: int = 2500, **options: Any) -> CheckoutPage:
    now = options.pop("now", shop.now)
    wanted = options.pop("order", None) or order(minor)
    return await shop.payments.open_checkout("live", account_id, wanted, now=now, **options)


async def pay(shop: Shop, page: CheckoutPage, method: str = "pm_card_visa") -> str:
    """Pay on the page. Return the payment's id."""
    payment_id: str = (await shop.control(f"checkout_sessions/{page.session_id}/pay", method=method))["id"]
    return payment_id


async def session(shop: Shop, page: CheckoutPage) -> dict[str, Any]:
    found: dict[str, Any] = await shop.stripe("GET", f"{SESSIONS}/{page.session_id}")
    return found


async def purchase_of(shop: Shop, account_id: UUID) -> dict[str, Any]:
    [purchase] = await shop.purchases(account_id)
    return purchase
