"""The application: per-process objects, middleware, and the only list of routers."""

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

import app.accounts.router
import app.admin.admins.router
import app.admin.alerts.router
import app.admin.analytics.margins
import app.admin.analytics.router
import app.admin.api_keys.router
import app.admin.approvals.router
import app.admin.audit.router
import app.admin.configuration.router
import app.admin.double_charges.router
import app.admin.failed_payments.router
import app.admin.plans.router
import app.admin.prices.router
import app.admin.purchases.router
import app.admin.refusals.router
import app.admin.sign_in
import app.admin.static_pages
import app.admin.subscriptions.figures_router
import app.admin.subscriptions.router
import app.admin.system.router
import app.admin.usage.router
import app.admin.users.credits
import app.admin.users.holds
import app.admin.users.limits
import app.admin.users.personal_data
import app.admin.users.refills
import app.admin.users.router
import app.admin.users.runs
import app.admin.users.wallet
import app.approvals.own_router
import app.approvals.router
import app.billing.batch_router
import app.billing.router
import app.cost_records.router
import app.explanations.router
import app.health.router
import app.holds.router
import app.limits.own_router
import app.limits.router
import app.live.router
import app.metering.events_router
import app.metering.reports_router
import app.metering.router
import app.metering.usage_router
import app.neighbours.second_layer.payment_methods
import app.neighbours.second_layer.router
import app.neighbours.z_billing.credits_router
import app.neighbours.z_billing.payments_router
import app.neighbours.z_billing.router
import app.payments.currencies
import app.payments.packs
import app.payments.router
import app.payments.webhooks
import app.promotions.router
import app.receipts.router
import app.refills.router
import app.runs.router
import app.subscriptions.plans
import app.subscriptions.router
import app.subscriptions.zero_router
import app.tools.router
import app.wallet.router
from app.admin.audit.log import record_by_caller
from app.approvals.service import ApprovalService
from app.auth.admins.sessions import AdminSessions
from app.auth.admins.sign_in import SignIn
from app.auth.api_keys.key_route import HotRoutes
from app.auth.authenticator import Authenticator
from app.billing.posting import CHARGE
from app.billing.service import BillingService
from app.configuration.editing import ConfigurationEditor
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import requests_database
from app.db.listener import NotificationListener
from app.db.replica import ReadReplica
from app.db.version_mark import VersionMark
from app.errors import install_error_handlers, response_for
from app.health.gauges import measure_connections
from app.health.provider_status import postgresql_probe, stripe_probe
from app.health.router import VERSION
from app.holds.service import HoldService
from app.http.admission import ConcurrencyLimiter
from app.http.cors import CorsHeaders, Preflight
from app.http.envelope_middleware import Envelopes
from app.http.middleware import Admission, BodyLimit, Deadline, HeadAsGet
from app.limits.service import LimitService
from app.live.feeds import Feeds
from app.live.registry import Registry
from app.live.tickets import Tickets
from app.metering.service import UsageService
from app.observability.metrics import BUILD, CHARGES_WAITING
from app.observability.requests import RequestContext
from app.observability.sentry import flush_sentry
from app.observability.tracing import start_tracing, stop_tracing
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.pricing.service import PriceBooks
from app.pricing.unknown_models import UnknownModels
from app.promotions.service import PromotionService
from app.receipts.service import StatementService
from app.receipts.signing import Signer
from app.refills.wiring import refill_services
from app.refusals.log import RefusalLog
from app.runs.service import RunService
from app.settings import Mode, Settings, load_settings
from app.subscriptions.wiring import subscription_services
from app.tools.service import OPERATION, ProductInventoryService
from app.wallet.service import WalletService

DESCRIPTION = """Decides whether each step of an AI agent is paid for.

`*_minor` amounts of the billing API are hundredths of a credit (100 = 1 credit); prices are minor units of the
currency (500 = $5.00). Every error answers `{"detail", "code", "request_id"}`."""


ROOT = Path(__file__).parent.parent
ROUTERS = (
    app.billing.router,
    app.live.router,  # before the accounts, whose path of an identity would match
    app.billing.batch_router,
    app.receipts.router,  # before the accounts, whose last route has its path as well
    app.accounts.router,
    app.metering.router,
    app.metering.usage_router,
    app.metering.events_router,
    app.metering.reports_router,
    app.cost_records.router,
    app.holds.router,
    app.explanations.router,
    app.limits.router,
    app.limits.own_router,
    app.runs.router,
    app.approvals.router,
    app.approvals.own_router,
    app.tools.router,
    app.wallet.router,
    app.neighbours.z_billing.router,
    app.neighbours.z_billing.credits_router,
    app.neighbours.z_billing.payments_router,
    app.refills.router,
    app.promotions.router,
    app.neighbours.second_layer.router,
    app.neighbours.second_layer.payment_methods,
    app.payments.router,
    app.payments.currencies,
    app.payments.packs,
    app.payments.webhooks,
    app.subscriptions.plans,
    app.subscriptions.router,
    app.subscriptions.zero_router,
    app.admin.sign_in,
    app.admin.users.router,
    app.admin.users.credits,
    app.admin.users.holds,
    app.admin.users.limits,
    app.admin.users.personal_data,
    app.admin.users.wallet,
    app.admin.users.refills,
    app.admin.users.runs,
    app.admin.api_keys.router,
    app.admin.purchases.router,
    app.admin.subscriptions.router,
    app.admin.subscriptions.figures_router,
    app.admin.alerts.router,
    app.admin.approvals.router,
    app.admin.analytics.router,
    app.admin.analytics.margins,
    app.admin.audit.router,
    app.admin.configuration.router,
    app.admin.failed_payments.router,
    app.admin.plans.router,
    app.admin.prices.router,
    app.admin.usage.router,
    app.admin.refusals.router,
    app.admin.double_charges.router,
    app.admin.admins.router,
    app.admin.system.router,
    app.health.router,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    BUILD.info({"version": VERSION})
    if settings.otel_exporter_otlp_endpoint is not None:
        start_tracing(settings.otel_exporter_otlp_endpoint, service="ciris-billing-api", version=VERSION)
    db = requests_database(settings, settings.database_pool_size)
    listener = NotificationListener(settings.direct_url)
    configuration = Configuration(db, settings, listener)
    gateway = StripeGateway(settings, configuration)
    app.state.db = db
    app.state.configuration = configuration
    app.state.replica = ReadReplica(db, settings)
    app.state.price_books = PriceBooks(db, listener)
    app.state.unknown_models = UnknownModels(db)
    app.state.refusal_log = RefusalLog(db)
    app.state.configuration_editor = ConfigurationEditor(settings)
    app.state.gateway = gateway
    app.state.providers = {"postgresql": postgresql_probe(db), "stripe": stripe_probe(gateway)}
    app.state.billing = BillingService(db, configuration)
    app.state.accounts = app.state.billing.accounts
    app.state.accounts.directory.listen(listener)
    app.state.statements = StatementService(db, app.state.accounts, Signer(settings.signing_keys))
    app.state.tools = ProductInventoryService(db, configuration, app.state.billing)
    app.state.version_mark = VersionMark(db)
    app.state.usage = UsageService(
        db,
        app.state.billing.batcher,
        app.state.accounts,
        app.state.price_books,
        app.state.unknown_models,
        configuration,
        app.state.version_mark,
    )
    app.state.cost_records = CostRecordService(db, app.state.billing.batcher, configuration)
    app.state.holds = HoldService(db, app.state.billing.batcher, configuration)
    app.state.limits = LimitService(db, app.state.accounts, app.state.version_mark, record_by_caller)
    app.state.runs = RunService(db, app.state.cost_records)
    app.state.approvals = ApprovalService(db, app.state.accounts, app.state.runs)
    app.state.wallet = WalletService(db, app.state.accounts, app.state.version_mark)
    app.state.promotions = PromotionService(
        *(db, configuration, app.state.accounts, app.state.wallet, app.state.version_mark), zone=settings.time_zone
    )
    settlement, app.state.subscriptions = subscription_services(db, configuration, app.state.accounts, gateway)
    app.state.payments = PaymentService(db, configuration, app.state.billing, gateway, settlement)
    app.state.refills, app.state.cards, _ = refill_services(db, configuration, app.state.version_mark, gateway)
    app.state.auth = Authenticator(db, settings, listener)
    app.state.accounts.directory.limit(app.state.auth.admit_account)
    app.state.feeds = Feeds(db, configuration)
    app.state.streams = Registry(settings, app.state.auth.continuing, lambda: app.state.draining)
    app.state.tickets = Tickets(db)
    app.state.admin_sessions = AdminSessions(db, settings)
    http = httpx.AsyncClient()
    app.state.sign_in = SignIn(settings, http)

    def measure_process() -> None:
        measure_connections(db)
        services = (
            (CHARGE, app.state.billing),
            (OPERATION, app.state.tools),
            ("usage", app.state.usage),
            ("cost_record", app.state.cost_records),
            ("hold", app.state.holds),
        )
        for operation, service in services:
            CHARGES_WAITING.labels(operation).set(service.waiting)

    app.state.measure_process = measure_process
    db.watch()
    listener.start()
    app.state.auth.start()
    app.state.replica.start()
    app.state.unknown_models.start()
    app.state.refusal_log.start()
    try:
        yield
    finally:
        await app.state.streams.stop()
        await app.state.feeds.stop()
        for probe in app.state.providers.values():
            await probe.stop()
        await app.state.billing.stop()
        await app.state.tools.stop()
        await app.state.replica.stop()
        await app.state.unknown_models.stop()
        await app.state.refusal_log.stop()
        await listener.stop()
        await app.state.auth.stop()
        await app.state.sign_in.aclose()
        await http.aclose()
        await gateway.close()
        await db.close()
        await stop_tracing()
        await flush_sentry()


def _unique_id(route: APIRoute) -> str:
    return route.name


@functools.cache
def routes() -> Sequence[BaseRoute]:
    """Return the routes, which all applications of a process share.

    FastAPI prepares an included router when a request is first matched against it: 0.6 s for all, once per process.
    Matching here keeps that from the first request.
    """
    shared = FastAPI(openapi_url=None, generate_unique_id_function=_unique_id)
    for module in ROUTERS:
        shared.include_router(module.router)
    for route in shared.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
    return shared.routes


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or load_settings()
    api = FastAPI(
        title="CIRIS Billing",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
        # app.observability does all three. With them on, each request would look for FastAPI's providers.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,  # such a redirect goes to any host that the request names
    )
    api.state.settings = settings
    api.state.draining = False
    api.state.limiter = ConcurrencyLimiter()
    api.router.routes.extend(routes())
    pages = app.admin.static_pages.Pages(ROOT / settings.admin_ui_dir, being_built=settings.mode is Mode.DEMO)
    api.add_route("/admin-ui", app.admin.static_pages.redirect_to_pages, include_in_schema=False)
    api.mount("/admin-ui", pages)
    install_error_handlers(api)
    hot = [route for module in ROUTERS for route in module.router.routes]
    api.add_middleware(HotRoutes, routes=hot)
    api.add_middleware(HeadAsGet)
    api.add_middleware(Deadline, timeout_s=settings.request_timeout_s)
    api.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    api.add_middleware(Admission, limiter=api.state.limiter)
    if settings.cors_origins:
        api.add_middleware(Preflight, origins=settings.cors_origins)
    api.add_middleware(RequestContext, response_for=response_for)
    # Added last, so outermost: these change the answers of all others.
    api.add_middleware(Envelopes)
    if settings.cors_origins:
        api.add_middleware(CorsHeaders, origins=settings.cors_origins)
    return api
