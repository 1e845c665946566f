"""The local Stripe of many customers in this process: an account each, all with the same prices.

One account of so many customers would look through all of them in each step of a test clock. The official SDK reads
these accounts by `Direct`, without a network between.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import stripe

from app.demo.stripe import products
from app.demo.stripe.account import Account, AccountConfig
from app.demo.stripe.followers import FOLLOWERS
from app.demo.stripe.forms import parse_form
from app.demo.stripe.lists import expanded
from app.demo.stripe.objects import Object, StripeError
from app.demo.stripe.routes import ROUTES
from app.plans.document import Plan
from tests.servers import LocalStripe

KINDS = {"sub": "subscription", "in": "invoice", "pi": "payment_intent"}
OWNERS = ("subscription", "invoice", "payment_intent")
READS = [
    (re.compile("/v1" + path.removeprefix("/v1").replace("{object_id}", "(?P<id>[^/]+)")), call)
    for method, path, call in ROUTES
    if method == "GET"
]
LOCAL = LocalStripe("http://stripe.invalid", "sk_test_simulation", "pk_test_simulation", "whsec_of_the_simulation")


class Accounts:
    def __init__(self, plans: Iterable[Plan]) -> None:
        self._all: list[Account] = []
        self._prices: dict[str, Object] = {}
        shop = Account(AccountConfig("pk", LOCAL.webhook_secret), lambda _, event: None)
        for price in (price for plan in plans for price in plan.prices):
            form = {
                "currency": price.currency.lower(),
                "unit_amount": str(price.amount_minor),
                "recurring": {"interval": price.interval},
                "product_data": {"name": "A plan"},
            }
            key = price.stripe_price("live") or ""
            self._prices[key] = {**products.create_price(shop, form), "id": key}
        self._products = shop.objects["product"]

    def open(self, publish: Callable[[Account, Object], None]) -> Account:
        """Open an account. `publish` gets each event with its account."""
        account = Account(AccountConfig("pk", LOCAL.webhook_secret), publish, FOLLOWERS)
        account.objects |= {"price": self._prices, "product": self._products}
        self._all.append(account)
        return account

    def owner(self, object_id: str) -> Account:
        """Return the account of an object. Raises StripeError."""
        kind = KINDS[object_id.partition("_")[0]]
        for account in self._all:
            if object_id in account.objects[kind]:
                return account
        raise StripeError(404, "invalid_request_error", f"No such {kind}", code="resource_missing")


class Direct(stripe.HTTPClient):
    """The SDK's client for calls that read."""

    name = "direct"

    def __init__(self, accounts: Accounts) -> None:
        super().__init__()
        self._accounts = accounts
        self.calls = 0

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        assert method == "get", method
        self.calls += 1
        target = urlsplit(url)
        try:
            status, body = 200, self._read(target.path, parse_form(target.query))
        except StripeError as error:
            status, body = error.status, {"error": error.error}
        return json.dumps(body).encode(), status, {"Request-Id": "req_simulated"}

    def _read(self, path: str, form: Object) -> Object:
        for pattern, call in READS:
            if (found := pattern.fullmatch(path)) is not None:
                object_id = found.groupdict().get("id", "")
                key = object_id or next(form[name] for name in OWNERS if name in form)
                account = self._accounts.owner(key)
                return expanded(account, call(account, form, object_id), form)
        raise StripeError(404, "invalid_request_error", f"Unrecognized request URL: {path}")

    async def close_async(self) -> None:
        """Do nothing: there is no connection."""
