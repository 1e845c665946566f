"""Persistence of the local Stripe: state is written after changes only, and read at start."""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.demo.stripe import payment_methods
from app.demo.stripe.account import Account, Remembered
from app.demo.stripe.cards import VOUCHERS, is_accepted_card
from app.demo.stripe.store import SESSION


async def save_changes(local: Any, path: Path | None, save_after_s: float) -> None:
    while path is not None:
        await local.changed.wait()
        await asyncio.sleep(save_after_s)
        save(local, path)


def save(local: Any, path: Path | None) -> None:
    """Write the state if it has changed since the last time."""
    if path is not None and local.changed.is_set():
        local.changed.clear()
        kept = {
            account.config.publishable_key: {
                "objects": account.objects,
                "undelivered": list(account.undelivered),
                "remembered": {k: asdict(r) for k, r in account.remembered.items() if r.answer is not None},
            }
            for account in local.accounts.values()
        }
        beside = path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        # The file contains buyers' addresses and client secrets: only its owner may read it.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(kept, file)
        beside.replace(path)


def load(local: Any, path: Path | None) -> None:
    if path is not None and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        for account in local.accounts.values():
            key = account.config.publishable_key
            if key in kept:
                account.objects |= kept[key]["objects"]
                _upgrade(account)
                account.remembered = {
                    k: Remembered(r["fingerprint"], (r["answer"][0], r["answer"][1]))
                    for k, r in kept[key]["remembered"].items()
                }
                for refund in account.objects["refund"].values():
                    local.settle_later(account, refund)
                for event_id in kept[key].get("undelivered", []):
                    local.deliverer.publish(account, account.objects["event"][event_id])


def _upgrade(account: Account) -> None:
    """Add what a state lacks that was saved before customers and payment methods existed."""
    for intent in account.objects["payment_intent"].values():
        intent |= {"customer": None, "setup_future_usage": None, "description": None} | intent
        method = intent["payment_method"]
        if method is not None and (method in VOUCHERS or is_accepted_card(method)):
            intent["payment_method"] = payment_methods.make(account, method)["id"]
    for session_id, data in account.objects.pop("payment_intent_data", {}).items():
        session = account.find(SESSION, session_id)
        session |= {"setup_intent": None, "subscription": None, "invoice": None, "customer_creation": None} | session
        account.private(session).update({"setup_future_usage": None, "description": None} | data)
        if session["payment_intent"] is not None:
            account.objects["private"].setdefault(session["payment_intent"], {})["session"] = session_id
