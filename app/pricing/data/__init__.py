"""Shipped price data."""
