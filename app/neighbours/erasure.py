"""Erasure of the values that imports stored about a person."""

from app.accounts.erasure import Texts

TEXTS = Texts("moved_accounts", "account_id", {"details": "'{}'"})
