"""What anybody may ask: is it up, is the ledger sound, what do the metrics say."""

import hmac
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.billing.schemas import ErrorReply, InvalidReply, Reply, Timestamp
from app.billing.verify import last_verification
from app.clock import Now
from app.config import Settings
from app.db import Database
from app.errors import AppError, is_database_unavailable
from app.observability import ALERTS_OPEN, LEDGER_VERIFIED, REGISTRY
from app.risk.queries import FINDERS, count_open

VERSION = version("ciris-billing")
router = APIRouter(tags=["status"])


class MetricsTokenRequired(AppError):
    """`/metrics` without its bearer token."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__("Metrics need the bearer token METRICS_TOKEN", headers={"WWW-Authenticate": "Bearer"})


class Service(Reply):
    service: str = "ciris-billing"
    status: Literal["running"] = "running"
    version: str = VERSION


class Health(Reply):
    status: Literal["healthy", "unhealthy"]
    database: Literal["connected", "disconnected"]
    timestamp: Timestamp


class LedgerStatus(Reply):
    verified_at: Timestamp
    ok: bool
    accounts: int
    entries: int


class Status(Reply):
    service: str = "ciris-billing"
    version: str = VERSION
    timestamp: Timestamp
    ledger: LedgerStatus | None


@router.get("/")
async def root() -> Service:
    return Service()


@router.get("/health", responses={503: {"model": Health}})
async def health(request: Request, response: Response, now: Now) -> Health:
    """200 while the database answers, else 503."""
    db: Database = request.app.state.db
    try:
        await db.ping()
    except Exception as error:
        if not is_database_unavailable(error):
            raise
        response.status_code = 503
        response.headers["Retry-After"] = "1"
        return Health(status="unhealthy", database="disconnected", timestamp=now)
    return Health(status="healthy", database="connected", timestamp=now)


@router.get("/v1/status", responses={503: {"model": ErrorReply}})
async def service_status(request: Request, now: Now) -> Status:
    """The version, and the last verification of the whole ledger (null before the first)."""
    last = await last_verification(request.app.state.db)
    ledger = None
    if last is not None:
        ledger = LedgerStatus(verified_at=last.finished_at, ok=last.ok, accounts=last.accounts, entries=last.entries)
    return Status(timestamp=now, ledger=ledger)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: {"model": ErrorReply}, 422: {"model": InvalidReply}},
)
async def metrics(request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
    """Prometheus metrics. Needs `Authorization: Bearer METRICS_TOKEN` where that is set."""
    settings: Settings = request.app.state.settings
    if settings.metrics_token is not None:
        expected = f"Bearer {settings.metrics_token.get_secret_value()}".encode()
        if not hmac.compare_digest((authorization or "").encode("utf-8", "replace"), expected):
            raise MetricsTokenRequired
    db: Database = request.app.state.db
    try:  # the worker's doing; its metrics are the database's
        last = await last_verification(db)
        async with db.read() as session:
            open_alerts = await count_open(session)
    except Exception as error:
        if not is_database_unavailable(error):
            raise
    else:
        if last is not None and last.ok:
            LEDGER_VERIFIED.set(last.finished_at.timestamp())
        for rule in FINDERS:
            ALERTS_OPEN.labels(rule).set(open_alerts.get(rule, 0))
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
