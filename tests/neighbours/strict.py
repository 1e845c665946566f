"""Clients as strict as the neighbours' own: a field of another type is an error, and so is a missing one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

ACCOUNT: Mapping[str, type] = {
    "user_id": str,
    "balance_cents": int,
    "balance_formatted": str,
    "lifetime_purchased_cents": int,
    "lifetime_granted_cents": int,
    "lifetime_used_cents": int,
    "plan": str,
    "auto_refill_enabled": bool,
    "created_at": datetime,
}
BALANCE: Mapping[str, type] = {"balance_cents": int, "balance_formatted": str, "plan": str}
TRANSACTION: Mapping[str, type] = {
    "id": str,
    "amount_cents": int,
    "transaction_type": str,
    "balance_after_cents": int,
    "description": str,
    "created_at": datetime,
}


def read(value: Mapping[str, Any], fields: Mapping[str, type]) -> dict[str, Any]:
    """The fields of an answer, each exactly of its type: true is no integer, and 1.0 is none either."""
    found: dict[str, Any] = {}
    for name, kind in fields.items():
        sent = value[name]
        if kind is datetime:
            moment = datetime.fromisoformat(sent)  # as `new Date(created_at)` needs it
            assert moment.utcoffset() is not None, name
            found[name] = moment
            continue
        assert type(sent) is kind or (kind is float and type(sent) is int), (name, sent)
        found[name] = sent
    return found


def z_error(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal, as the Rust client reads them."""
    error = answer.json()["error"]
    assert (type(error["code"]), type(error["message"])) == (str, str)
    assert {"detail", "code", "request_id"} <= answer.json().keys()
    return answer.status_code, error["code"], error["message"]


def second_layer_error(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, reason phrase and message of a refusal, as the web app reads them."""
    body = answer.json()
    assert {type(body[name]) for name in ("error", "message", "code")} == {str}
    return answer.status_code, body["error"], body["message"]
