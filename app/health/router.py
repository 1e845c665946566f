"""Health, status and metrics routes."""

import asyncio
import hmac
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field

from app.clock import Now
from app.db import Database
from app.db.replica import ReadReplica
from app.errors import AppError, is_database_unavailable
from app.health.gauges import measure_state
from app.health.provider_status import DATABASE_DOWN, WAIT_S, ProviderProbe, State, overall
from app.http.schemas import ErrorReply, InvalidReply, Reply, Timestamp
from app.ledger.verification import last_verification
from app.observability.metrics import REGISTRY
from app.settings import Settings

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
    service: str = "ciris-billing"
    version: str = VERSION
    status: Literal["healthy", "unhealthy"]
    database: Literal["connected", "disconnected"]
    timestamp: Timestamp


class Readiness(Reply):
    status: Literal["ready", "draining", "cut_off", "read_only"]


class LedgerStatus(Reply):
    verified_at: Timestamp
    ok: bool
    accounts: int
    entries: int


class ReplicaStatus(Reply):
    in_use: bool
    lag_s: float | None


class ProviderStatus(Reply):
    status: State
    latency_ms: int | None = Field(description="Of the last check; null if the provider did not answer.")
    last_check: Timestamp
    message: str | None = Field(description="The problem; null if there is none.")


class Providers(Reply):
    postgresql: ProviderStatus
    stripe: ProviderStatus


class Status(Reply):
    service: str = "ciris-billing"
    status: State = Field(
        description="`outage`: nothing can be charged. `degraded`: PostgreSQL is slow, or Stripe does not answer and "
        "purchases fail."
    )
    version: str = VERSION
    timestamp: Timestamp
    providers: Providers = Field(description="Each is checked at most every 10 s.")
    ledger: LedgerStatus | None = Field(description="The last verification of the whole ledger; null before the first.")
    replica: ReplicaStatus | None = Field(description="null if there is no read replica.")


@router.get("/")
async def root() -> Service:
    return Service()


@router.get("/health", responses={503: {"model": Health}})
async def health(request: Request, response: Response, now: Now) -> Health:
    """Answer 200 while the database answers, else 503."""
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


@router.get("/ready", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """Readiness for load balancers: answer 200 while this process should receive requests, else 503.

    503 means that the process ends soon, has no database, or has a read-only one. Normally it queries nothing (ADR 11):
    an overloaded process must not look like a dead one, or the other processes receive its share as well.
    """
    state = request.app.state
    if state.draining:
        response.status_code = 503
        return Readiness(status="draining")
    if state.db.is_read_only:
        response.status_code = 503
        return Readiness(status="read_only")
    if not state.auth.is_current():
        try:
            await state.db.ping()
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            response.status_code = 503
            return Readiness(status="cut_off")
    return Readiness(status="ready")


async def _ledger(db: Database, postgresql: ProviderProbe) -> LedgerStatus | None:
    """Return the last verification, or None. Report to `postgresql` when the database does not answer."""
    if db.is_down:
        postgresql.fail(DATABASE_DOWN)
        return None
    try:
        async with asyncio.timeout(WAIT_S):
            last = await last_verification(db)
    except TimeoutError:
        return None
    except Exception as error:
        if not is_database_unavailable(error):
            raise
        postgresql.fail(DATABASE_DOWN)
        return None
    if last is None:
        return None
    return LedgerStatus(verified_at=last.finished_at, ok=last.ok, accounts=last.accounts, entries=last.entries)


@router.get("/v1/status")
async def service_status(request: Request, now: Now) -> Status:
    """Return whether the service and its dependencies work. Answers 200 in every state, within about two seconds."""
    probes: dict[str, ProviderProbe] = request.app.state.providers
    ledger = await _ledger(request.app.state.db, probes["postgresql"])
    postgresql, stripe = await asyncio.gather(probes["postgresql"].current(), probes["stripe"].current())
    replica: ReadReplica = request.app.state.replica
    state = replica.state
    return Status(
        status=overall(postgresql, stripe),
        timestamp=now,
        providers=Providers.model_validate({"postgresql": asdict(postgresql), "stripe": asdict(stripe)}),
        ledger=ledger,
        replica=None if state is None else ReplicaStatus(in_use=state.in_use, lag_s=state.lag_s),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: {"model": ErrorReply}, 422: {"model": InvalidReply}},
)
async def metrics(request: Request, now: Now, authorization: Annotated[str | None, Header()] = None) -> Response:
    """Return Prometheus metrics. Requires `Authorization: Bearer METRICS_TOKEN` if that setting is set."""
    settings: Settings = request.app.state.settings
    if settings.metrics_token is not None:
        expected = f"Bearer {settings.metrics_token.get_secret_value()}".encode()
        if not hmac.compare_digest((authorization or "").encode("utf-8", "replace"), expected):
            raise MetricsTokenRequired
    request.app.state.measure_process()
    await measure_state(request.app.state.db, now)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
