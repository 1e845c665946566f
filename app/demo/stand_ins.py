"""The local Stripe and the local sign-in provider, configured for the demo. Few imports, so that they start fast."""

import json
import os
from pathlib import Path

from fastapi import FastAPI

from app.demo import oidc, stripe

ADMIN_EMAIL = "admin@ciris.ai"
HEAD, SUPPORT, VIEWER = "nora@ciris.ai", "sam@ciris.ai", "vera@ciris.ai"
"""Colleagues in the sample traffic, with the roles admin, support and viewer."""
PACKS = {
    "standard": {"price_minor": 500, "credits": 20},
    "plus": {"price_minor": 2000, "credits": 100},
    "team": {"price_minor": 8000, "credits": 500},
}
"""The packs on sale in the demo."""
OIDC_CLIENT_ID = "ciris-billing-demo"
"""The audience of tokens that users' agents have, too."""
WEB_CLIENT_ID = "ciris-billing-demo-web"
"""The audience of tokens that only a person has, who has just signed in."""
ADMIN_CLIENT_ID = "ciris-billing-back-office"


def create_stripe() -> FastAPI:
    """Create the local Stripe with an account per environment; its webhooks go to the demo's API."""
    webhook_url = f"{os.environ['DEMO_BASE_URL']}/v1/billing/webhooks/stripe"
    accounts = {}
    for name in ("STRIPE_LIVE", "STRIPE_TEST"):
        keys = json.loads(os.environ[name])
        accounts[keys["secret_key"]] = stripe.AccountConfig(
            publishable_key=keys["publishable_key"], webhook_secret=keys["webhook_secret"], webhook_url=webhook_url
        )
    return stripe.create_app(accounts=accounts, state_path=Path(os.environ["DEMO_STATE_DIR"]) / "stripe.json")


def create_oidc() -> FastAPI:
    """Create the local sign-in provider with the back office's client, and sample users."""
    redirect = f"{os.environ['DEMO_BASE_URL']}/admin/oauth/callback"
    return oidc.create_app(
        issuer=os.environ["DEMO_OIDC_URL"],
        clients=[
            oidc.Client(OIDC_CLIENT_ID, None, ()),
            oidc.Client(WEB_CLIENT_ID, None, ()),
            oidc.Client(ADMIN_CLIENT_ID, None, (redirect,)),
        ],
        users=[
            oidc.User("admin-1", ADMIN_EMAIL, "Ada Admin", hd="ciris.ai"),
            oidc.User("support-1", SUPPORT, "Sam Support", hd="ciris.ai"),
            oidc.User("viewer-1", VIEWER, "Vera Viewer", hd="ciris.ai"),
            oidc.User("paid-user@example.com", "paid-user@example.com", "Paid User"),
            oidc.User("you@example.com", "you@example.com", "You"),
        ],
        state_path=Path(os.environ["DEMO_STATE_DIR"]) / "oidc.json",
    )
