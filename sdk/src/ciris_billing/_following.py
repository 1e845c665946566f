"""Following a stream of events, without I/O (sans-I/O): the request, its events, and when to connect again."""

import json
import logging
import uuid
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import ValidationError

from ciris_billing._exchange import HOST_FAILURES, Exchange, fields_of, unanswered
from ciris_billing._failures import error_for
from ciris_billing._retry import retry_after_s
from ciris_billing.errors import BillingError, InvalidReply, RateLimited, ServiceUnavailable
from ciris_billing.live import Approval, Balance, BalanceEvent, LedgerEntry

log = logging.getLogger("ciris_billing")
SILENCE_S = 60.0
"""The service sends a comment every 15 seconds. A connection that is silent for longer is lost."""
CLOSED = "account_closed"
MAX_APPROVALS = 1_000
"""The approvals that a follower remembers. One that it has forgotten may come once more."""
KINDS = ("snapshot", "change", "balance", "approval")


class Follower:
    """One account's stream over any number of connections. `is_over`: the account is closed, nothing more comes."""

    def __init__(self, exchange: Exchange, account_id: UUID | str | None, after: int | None) -> None:
        path = "/v1/accounts/me" if account_id is None else f"/v1/billing/accounts/{quote(str(account_id), safe='')}"
        self._exchange, self._path = exchange, f"{path}/events"
        self._position = after
        self._retry_s = 0.0
        self._failures = 0
        self._host = ""
        self._request_id = ""
        self._fields: dict[str, str] = {}
        self._began_s = exchange.clock()
        self._has_begun = False
        self._balance: Balance | None = None
        self._approvals: dict[str, Approval] = {}
        self.is_over = False

    def request(self) -> tuple[str, dict[str, str]]:
        """Return the address and the headers of the next connection."""
        self._host = self._exchange.hosts.choose(self._exchange.clock())
        self._request_id = uuid.uuid4().hex
        self._fields = {}
        headers = self._exchange.headers(self._request_id, accept="text/event-stream")
        if self._position is not None:
            headers["Last-Event-ID"] = str(self._position)
        return self._host + self._path, headers

    def refused(self, status: int, headers: httpx.Headers, content: bytes) -> None:
        """Take an answer that is no stream. Raises the BillingError of one that a later attempt would get again."""
        if status == HTTPStatus.NO_CONTENT:
            self.is_over = True
            return
        if status in HOST_FAILURES:
            self._exchange.hosts.failed(self._host, self._exchange.clock())
        request_id = headers.get("X-Request-ID", self._request_id)
        self._failed(error_for(status, fields_of(content), retry_after=retry_after_s(headers), request_id=request_id))

    def lost(self, error: httpx.TransportError) -> None:
        """Take the loss of a connection, or the failure to make one."""
        self._exchange.hosts.failed(self._host, self._exchange.clock())
        self._failed(unanswered(error, self._request_id))

    def _failed(self, error: BillingError) -> None:
        """Raises the error if it does not pass, or if the first connection is not made within the deadline of calls.
        An outage after the first event is waited out."""
        if not isinstance(error, RateLimited | ServiceUnavailable):
            raise error
        self._failures += 1
        self._retry_s = self._exchange.retry.wait_s(self._failures, error.retry_after, self._exchange.chance)
        is_late = self._exchange.clock() + self._retry_s > self._began_s + self._exchange.deadline_s
        if is_late and not self._has_begun:
            raise error
        fields = {"billing_code": error.code, "billing_request_id": error.request_id}
        log.info("billing watch interrupted: %s", error.code, extra=fields)

    def wait_s(self) -> float:
        """Return the pause before the next connection, in seconds."""
        return self._retry_s

    def read(self, line: str) -> BalanceEvent | None:
        """Take a line. Return the event that it completes."""
        if line:
            name, _, value = line.partition(":")
            if name:  # else a comment
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("retry", "").isdecimal():
            self._retry_s = int(fields["retry"]) / 1000
        name = fields.get("event", "")
        if "data" not in fields or name not in (*KINDS, "end"):
            return None
        try:
            event = self._event(name, json.loads(fields["data"]))
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise InvalidReply("The billing service sent an event that does not match the API") from error
        self._has_begun, self._failures = True, 0
        if fields.get("id", "").isdecimal():
            self._position = int(fields["id"])
        return event

    def _event(self, name: str, data: dict[str, Any]) -> BalanceEvent | None:
        if name == "end":
            self.is_over = data["reason"] == CLOSED
            return None
        if name == "approval":
            return self._news(Approval.model_validate(data["approval"]))
        self._balance = Balance.model_validate(data["balance"])
        return BalanceEvent(
            name,  # type: ignore[arg-type]  # one of KINDS
            self._balance,
            LedgerEntry.model_validate(data["entry"]) if name == "change" else None,
            bool(data.get("is_complete", True)),
        )

    def _news(self, approval: Approval) -> BalanceEvent | None:
        """Return the event of an approval. None for one that an earlier connection sent as it is."""
        if self._balance is None or self._approvals.get(approval.approval_id) == approval:
            return None
        self._approvals[approval.approval_id] = approval
        if len(self._approvals) > MAX_APPROVALS:
            del self._approvals[next(iter(self._approvals))]
        return BalanceEvent("approval", self._balance, approval=approval)
