"""Reactions to events: objects that move with others, in the order of Stripe's events."""

from app.demo.stripe import checkout, invoices, portal, subscriptions

FOLLOWERS = (invoices.follow, subscriptions.follow, portal.follow, checkout.follow)
