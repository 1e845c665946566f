"""Forms that no SDK sends to the local Stripe: it answers each of them with a client error that names the problem."""

import httpx
import pytest

from tests.demo.stripe_server.sdk import TIMEOUT_S
from tests.servers import LocalStripe

FORMS = {
    "/v1/customers": [
        "email[x]=1",
        "metadata[a][b]=1",
        "invoice_settings[default_payment_method][x]=1",
        "invoice_settings=x",
        "balance=ten",
        "test_clock=none",
    ],
    "/v1/customers/search": ["query[x]=1"],
    "/v1/payment_methods": ["type=card&card[number][x]=1", "type=card&card[token][x]=1", "type=card", "type=oxxo"],
    "/v1/payment_methods/pm_card_visa/attach": ["customer[x]=1", "customer=", "customer=%00"],
    "/v1/setup_intents": ["usage[x]=1", "confirm=1", "confirm=true", "customer=x", "payment_method=pm_x"],
    "/v1/products": ["name[x]=1", f"name={'x' * 256}", ""],
    "/v1/prices": [
        "currency=usd&unit_amount=-1&product_data[name]=x",
        "currency=usd&unit_amount=1&product_data[name][x]=1",
        "currency=usd&unit_amount=1&product_data=x",
        "currency=usd&unit_amount=1&recurring[interval][x]=1&product_data[name]=x",
        "currency=usd&unit_amount=1&recurring[interval]=day&recurring[interval_count]=0&product_data[name]=x",
    ],
    "/v1/subscriptions": ["customer=x", "items=x", "customer=x&items[0]=x", "customer=x&items[0][price][x]=1"],
    "/v1/invoices/create_preview": ["", "customer=x", "subscription=x", "subscription_details=x", "subscription[x]=1"],
    "/v1/checkout/sessions": [
        "mode[x]=1",
        "mode=subscription&success_url=https://a.example&line_items[0]=x",
        "mode=subscription&success_url=https://a.example&line_items[0][price][x]=1",
        "mode=subscription&success_url=https://a.example&line_items[0][price_data][recurring][interval]=month",
        "mode=subscription&success_url=https://a.example&line_items[0][price_data]=x",
        "mode=payment&success_url=https://a.example&payment_intent_data=x",
    ],
    "/v1/billing_portal/sessions": ["customer[x]=1", "customer=x"],
    "/v1/test_helpers/test_clocks": ["frozen_time[x]=1", "frozen_time=-1", "frozen_time=999999999999999", ""],
    "/v1/payment_intents": [
        "amount=500&currency[x]=1",
        "amount=500&currency=usd&payment_method[x]=1",
        "amount=500&currency=usd&confirm=true",
        "amount=500&currency=usd&off_session=true",
        "amount=500&currency=usd&confirm=true&payment_method_data[card]=x",
    ],
}


@pytest.mark.parametrize(("path", "form"), [(path, form) for path, forms in FORMS.items() for form in forms])
async def test_odd_forms_are_client_errors(shared_local: LocalStripe, path: str, form: str) -> None:
    headers = {
        "Authorization": f"Bearer {shared_local.secret_key}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    method = "GET" if path.endswith("/search") else "POST"
    address = f"{path}?{form}" if method == "GET" else path
    async with httpx.AsyncClient(
        base_url=shared_local.url, headers=headers, timeout=TIMEOUT_S, trust_env=False
    ) as http:
        answer = await http.request(method, address, content=form if method == "POST" else None)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["message"]
