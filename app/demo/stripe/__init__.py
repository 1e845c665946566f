"""A local Stripe: the API calls that this service makes with the official SDK, and the behaviour that matters for it.

Payments, saved cards, subscriptions and their invoices, the buyer's pages, test clocks, idempotency keys, signed
webhooks with retries, an event log; and routes that make deliveries late, doubled, disordered or lost, and calls fail.
For the demo and the tests: no money moves.
"""

from app.demo.stripe.account import AccountConfig
from app.demo.stripe.server import create_app

__all__ = ["AccountConfig", "create_app"]
