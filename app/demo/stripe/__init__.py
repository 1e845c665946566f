"""A local Stripe: what the official SDK calls for what we do, with the behaviour that matters to us.

Idempotency keys, declined cards, 3-D Secure, refunds, disputes, signed webhooks with retries, an event log; and routes
to make deliveries late, double, disordered or lost, and calls fail. For the demo and the tests: no money moves.
"""

from app.demo.stripe.account import AccountConfig
from app.demo.stripe.server import create_app

__all__ = ["AccountConfig", "create_app"]
