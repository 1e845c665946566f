"""A local Stripe: the API calls that this service makes with the official SDK, and the behaviour that matters for it.

Idempotency keys, declined cards, 3-D Secure, refunds, disputes, signed webhooks with retries, an event log; and routes
that make deliveries late, doubled, disordered or lost, and calls fail. For the demo and the tests: no money moves.
"""

from app.demo.stripe.account import AccountConfig
from app.demo.stripe.server import create_app

__all__ = ["AccountConfig", "create_app"]
