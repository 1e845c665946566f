"""Charges that probably repeat an earlier one under another idempotency key."""
