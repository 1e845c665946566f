"""Operations for cost records, and the steps before and after a piece of work."""

import logging
from collections.abc import Mapping
from typing import Any

from ciris_billing._calls import CallRunner, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.cost_records import (
    CostRecord,
    CostRecordDetail,
    CostRecordItem,
    CostRecordOpening,
    CostRecordSink,
    ItemAdded,
    Outcome,
    Recording,
)
from ciris_billing.errors import BillingError, CostRecordSettled, Unavailable, is_limit
from ciris_billing.models import without_none

log = logging.getLogger("ciris_billing")

PATH = "/v1/cost-records"


class CostRecordOperations(CallRunner):
    """Record work that is priced while it runs."""

    def open_cost_record(self, opening: CostRecordOpening | Mapping[str, Any]) -> Flow[CostRecord]:
        """Open a cost record, given as an object or as its `body()`. Charges and holds nothing, and creates a missing
        account. Needs a key with the permission `usage:write`. A repeat returns the same record, as it is now.

        `record` does this, and all that follows. Raises InsufficientMoney, LimitExceeded, RunRefused, AccountSuspended,
        AccountClosed, InvalidRequest (the `request_id` belongs to another record)."""
        body = opening.body() if isinstance(opening, CostRecordOpening) else opening
        return self.exchange.run(Call("open_cost_record", "POST", PATH, as_model(CostRecord), body))

    def add_cost_record_item(self, record_id: str, item: CostRecordItem | Mapping[str, Any]) -> Flow[ItemAdded]:
        """Add an item to an open record, given as an object or as its `body()`. The service prices it now. An item that
        was added before adds nothing and has `replayed` set.

        Raises CostRecordSettled if the record is no longer open, NotFound, InvalidRequest."""
        body = item.body() if isinstance(item, CostRecordItem) else item

        def parse(status: int, fields: Mapping[str, Any]) -> ItemAdded:
            return ItemAdded.model_validate({**fields, "replayed": status == 200})

        return self.exchange.run(Call("add_cost_record_item", "POST", f"{PATH}/{quoted(record_id)}/items", parse, body))

    def complete_cost_record(
        self,
        record_id: str,
        status: Outcome,
        *,
        execution_time_ms: int | None = None,
        error_message: str | None = None,
    ) -> Flow[CostRecord]:
        """Settle a record. `completed` charges the sum of its items once, however often it is sent. A part that
        the user's money does not cover becomes debt. `failed` charges nothing and keeps the record.

        Raises CostRecordSettled if the record has another outcome: the first one counts."""
        body = {"status": status, "execution_time_ms": execution_time_ms, "error_message": error_message}
        path = f"{PATH}/{quoted(record_id)}/complete"
        call = Call("complete_cost_record", "POST", path, as_model(CostRecord), without_none(body))
        return self.exchange.run(call)

    def get_cost_record(self, record_id: str) -> Flow[CostRecordDetail]:
        """Return a record with its items. Raises NotFound."""
        path = f"{PATH}/{quoted(record_id)}"
        return self.exchange.run(Call("get_cost_record", "GET", path, as_model(CostRecordDetail)))


class Work:
    """The steps before and after a piece of work whose cost is recorded."""

    def __init__(
        self, operations: CostRecordOperations, opening: CostRecordOpening, sink: CostRecordSink | None
    ) -> None:
        if sink is None:
            raise TypeError("record needs a queue: pass a UsageReporter as the client's `usage`")
        self._operations = operations
        self._opening = opening
        self._sink = sink
        self._started = 0.0

    def enter(self) -> Flow[Recording]:
        """Open the record. With the policy `fail_open`, it is opened later if the service is unavailable. A refusal is
        always a refusal: also a limit that is reached."""
        record = None
        try:
            record = yield from self._operations.open_cost_record(self._opening)
        except Unavailable as error:
            if is_limit(error) or self._operations.policy == "fail_closed":
                raise
        if record is not None and record.status not in ("open", "completed"):
            message = f"The work of this request_id has {record.status}: record its repetition under another request_id"
            raise CostRecordSettled(
                message,
                status=409,
                outcome=record.status,
                cost=record.cost,
                charged=record.charged,
            )
        self._started = self._operations.exchange.clock()
        return Recording(self._opening, record, self._sink)

    def leave(self, recording: Recording, failure: BaseException | None) -> Flow[None]:
        """Queue the outcome. Never raises a BillingError: the work is done. If the queue cannot store it, only a
        failure is sent at once. A success that overtook queued items would not charge them, so the record's expiry
        settles it."""
        took_ms = round((self._operations.exchange.clock() - self._started) * 1000)
        outcome: Outcome = "completed" if failure is None else "failed"
        completion: dict[str, Any] = {"status": outcome, "execution_time_ms": max(0, took_ms)}
        if failure is not None:
            completion["error_message"] = type(failure).__name__
        try:
            recording._end(completion)
        except BillingError as error:
            _log_unsettled(error, recording)
            if failure is not None and recording.record_id is not None:
                yield from self._fail(recording, recording.record_id)

    def _fail(self, recording: Recording, record_id: str) -> Flow[None]:
        try:
            yield from self._operations.complete_cost_record(record_id, "failed")
        except BillingError as error:
            _log_unsettled(error, recording)


def _log_unsettled(error: BillingError, recording: Recording) -> None:
    fields = {"billing_code": error.code, "billing_event_id": recording.request_id}
    log.error("billing cost record not settled: %s", error.code, extra=fields)
