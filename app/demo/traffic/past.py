"""Services at simulated times.

The services take the time as an argument. Two parts read a clock instead: ids (UUIDv7) must increase with the simulated
time, because the back office sorts by them, and the local Stripe's objects must have that time as well. So this
process, which does nothing else, replaces both: the clock of app.db.new_id, and the HTTP client of Stripe's SDK, whose
requests send the simulated time to the local Stripe. Each task has its own time (`at`).
"""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import stripe
from fastapi import FastAPI

import app.db.ids
from app.accounts.directory import AccountDirectory, Creation, Identity
from app.auth.caller import Environment
from app.billing.double_charges import Purposes
from app.billing.posting import Charge, ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.records import Outcome as RecordOutcome
from app.cost_records.records import Request as RecordRequest
from app.cost_records.service import CostRecordService
from app.db import Database
from app.db.statements import Tx
from app.db.version_mark import VersionMark
from app.demo.stripe.webhooks import signature
from app.ledger.batching import Accounts
from app.ledger.locked_account import LockedAccount
from app.ledger.outcomes import Outcome
from app.metering.events import Outcome as UsageOutcome
from app.metering.events import Report
from app.metering.service import UsageService
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_objects import HANDLED
from app.pricing.service import PriceBooks
from app.pricing.unknown_models import UnknownModels
from app.settings import Settings
from app.tools.service import ProductInventoryService, ToolChargeRequest
from app.tools.service import _Batch as ToolBatch
from app.wallet.service import WalletService

TIMEOUT_S = 30.0
"""No request waits for this process, and the machine is busy while the demo starts."""
_NOW: ContextVar[datetime] = ContextVar("now")


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Set the simulated time of this task, for ids and for the local Stripe."""
    token = _NOW.set(moment)
    try:
        yield
    finally:
        _NOW.reset(token)


class _PastIds(app.db.ids.IdClock):
    """The simulated time, with ids of one moment in the order in which they are made."""

    _made = 0

    def now_ns(self) -> int:
        self._made += 1
        return int(_NOW.get().timestamp() * 1000) * 1_000_000 + self._made * 250 % 1_000_000


class _PastHttp(stripe.HTTPXClient):
    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        timed = {**headers, "Local-Stripe-Time": str(int(_NOW.get().timestamp()))}
        return await super().request_async(method, url, timed, post_data)


class PastAccounts(AccountDirectory):
    """Gives each new account an id of the account's time, because those of one batch have different times."""

    def _new_ids(self, creations: Sequence[Creation]) -> dict[Identity, UUID]:
        ids: dict[Identity, UUID] = {}
        for creation in creations:
            with at(creation.at):
                ids |= super()._new_ids([creation])
        return ids


class PastBilling(BillingService):
    """The same as PastAccounts, for charges."""

    has_brake = False
    """Months of spending are written within a minute."""

    def __init__(self, db: Database, configuration: Configuration) -> None:
        super().__init__(db, configuration)
        self.accounts.directory = PastAccounts(db, configuration)

    def _decide(
        self,
        request: ChargeRequest,
        account: LockedAccount | None,
        allowance: int,
        used: dict[Any, Charge],
        new: list[dict[str, Any]],
        purposes: Purposes | None = None,
    ) -> Outcome[Charge]:
        with at(request.at):
            return super()._decide(request, account, allowance, used, new, purposes)


class PastTools(ProductInventoryService):
    """The same as PastBilling, for tool uses."""

    def _decide(self, request: ToolChargeRequest, batch: ToolBatch) -> Any:
        with at(request.at):
            return super()._decide(request, batch)


class PastUsage(UsageService):
    """Decides each report of a batch at its own time."""

    async def _decide(self, tx: Tx, accounts: Accounts, reports: Sequence[Report]) -> list[Sequence[UsageOutcome]]:
        outcomes: list[Sequence[UsageOutcome]] = []
        for report in reports:
            with at(report.terms.at):
                outcomes += await super()._decide(tx, accounts, [report])
        return outcomes


class PastRecords(CostRecordService):
    """The same as PastUsage, for cost records."""

    async def _decide(self, tx: Tx, accounts: Accounts, requests: Sequence[RecordRequest]) -> list[RecordOutcome]:
        outcomes: list[RecordOutcome] = []
        for request in requests:
            with at(request.at):
                outcomes += await super()._decide(tx, accounts, [request])
        return outcomes


@dataclass(frozen=True, slots=True)
class Past:
    """The services that replay the story."""

    db: Database
    settings: Settings
    billing: PastBilling
    tools: PastTools
    usage: PastUsage
    records: PastRecords
    wallet: WalletService
    prices: PriceBooks
    unknown_models: UnknownModels
    payments: PaymentService
    gateway: StripeGateway
    app: FastAPI
    """The request from which the back office's routes read their settings."""
    http: stripe.HTTPXClient

    @property
    def now(self) -> datetime:
        """The simulated time of this task."""
        return _NOW.get()

    def stripe(self, environment: Environment) -> stripe.StripeClient:
        """Return a client of the local Stripe, for the buyer and the bank."""
        keys = self.settings.stripe_live if environment == "live" else self.settings.stripe_test
        assert keys is not None
        base: Any = {"api": self.settings.stripe_api_base}
        return stripe.StripeClient(keys.secret_key.get_secret_value(), base_addresses=base, http_client=self.http)

    async def deliver(self, environment: Environment, payment_id: str) -> None:
        """Deliver Stripe's events of this second about a payment, as its webhooks would have."""
        keys = self.settings.stripe_live if environment == "live" else self.settings.stripe_test
        assert keys is not None
        second = int(self.now.timestamp())
        listed = await self.stripe(environment).v1.events.list_async(
            {"created": {"gte": second, "lte": second}, "limit": 100}
        )
        for event in reversed(listed.data):
            content = event.to_dict()
            subject = content["data"]["object"]
            if content["type"] in HANDLED and payment_id in (subject["id"], subject.get("payment_intent")):
                payload = json.dumps(content).encode()
                signed = signature(keys.webhook_secret.get_secret_value(), payload, int(time.time()))
                await self.payments.handle_webhook(payload, signed, self.now)


@asynccontextmanager
async def past(settings: Settings) -> AsyncIterator[Past]:
    """Yield the services with both clocks replaced, for the rest of this process."""
    app.db.ids.ID_CLOCK = _PastIds()
    stripe.HTTPXClient = _PastHttp  # type: ignore[misc]  # the gateway creates its client from this class
    db = Database(settings.database_url, pool_size=10, timeout_s=TIMEOUT_S)
    configuration = Configuration(db, settings)
    billing = PastBilling(db, configuration)
    gateway, http = StripeGateway(settings, configuration), _PastHttp(timeout=TIMEOUT_S)
    office = FastAPI()
    office.state.settings = settings
    try:
        with at(datetime.now(UTC)):
            payments = PaymentService(db, configuration, billing, gateway)
            prices, unknown, mark = PriceBooks(db), UnknownModels(db), VersionMark(db)
            yield Past(
                db=db,
                settings=settings,
                billing=billing,
                tools=PastTools(db, configuration, billing),
                usage=PastUsage(db, billing.batcher, billing.accounts, prices, unknown, configuration, mark),
                records=PastRecords(db, billing.batcher, configuration),
                wallet=WalletService(db, billing.accounts, mark),
                prices=prices,
                unknown_models=unknown,
                payments=payments,
                gateway=gateway,
                app=office,
                http=http,
            )
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]  # stripe leaves it untyped
        await gateway.close()
        await db.close()
