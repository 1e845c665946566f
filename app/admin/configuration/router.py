"""`/admin/config`: prices, products, defaults and payment providers; changes reach every process within a second."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.admin.configuration.schemas import (
    ProviderBody,
    ProviderReply,
    ProvidersReply,
    TryProviderBody,
    TryProviderReply,
    state_of,
)
from app.admin.configuration.section_routes import (
    CONFLICT,
    Editor,
    add_editing_routes,
    add_history_routes,
    by,
    record,
)
from app.admin.dependencies import Administrator, Db, Viewer
from app.auth.caller import Environment
from app.auth.guarded_route import GuardedRoute
from app.configuration.editing import ConfigurationEditor
from app.configuration.sections import PROVIDER_SECTIONS, SECTIONS
from app.db import Session
from app.http.schemas import ERRORS
from app.payments.errors import (
    PaymentProviderForbids,
    PaymentProviderRefused,
    PaymentProviderRejects,
    PaymentProviderUnavailable,
    PaymentsNotConfigured,
)
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings

router = APIRouter(prefix="/admin/config", tags=["admin: configuration"], responses=ERRORS, route_class=GuardedRoute)


async def stripe_gateway(request: Request) -> StripeGateway:
    gateway: StripeGateway = request.app.state.gateway
    return gateway


Gateway = Annotated[StripeGateway, Depends(stripe_gateway)]


add_editing_routes(router, SECTIONS)


@router.get("/providers")
async def get_providers(request: Request, admin: Viewer, db: Db, editor: Editor) -> ProvidersReply:
    """Return each environment's payment provider. Of secrets only the tails are shown, to every role."""
    settings: Settings = request.app.state.settings
    async with db.read() as session:
        providers = [await _provider(session, editor, environment) for environment in PROVIDER_SECTIONS]
    return ProvidersReply(
        providers=providers,
        webhook_url=f"{settings.base_url}/v1/billing/webhooks/stripe",
        can_store=editor.can_seal,
    )


@router.put("/providers/{environment}", responses=CONFLICT)
async def set_provider(
    environment: Environment, body: ProviderBody, admin: Administrator, db: Db, editor: Editor
) -> ProviderReply:
    """Store an environment's keys, encrypted. They take precedence over the settings."""
    async with db.transaction() as tx:
        before, after = await editor.change_provider(
            tx,
            environment,
            by(admin, body),
            publishable_key=body.publishable_key,
            secret_key=body.secret_key,
            webhook_secret=body.webhook_secret,
        )
        await record(admin, tx, PROVIDER_SECTIONS[environment], before, after)
        return await _provider(tx, editor, environment)


@router.post("/providers/{environment}/test")
async def try_provider(
    environment: Environment, body: TryProviderBody, admin: Administrator, gateway: Gateway
) -> TryProviderReply:
    """Check a key with Stripe, without storing it."""
    problem = note = None
    try:
        trial = await gateway.try_key(environment, body.secret_key)
        if trial == "other_mode":
            problem = f"Stripe knows this key, but it is not a {environment} key"
        elif trial == "restricted":
            note = (
                "A restricted key without access to the balance, which the service does not need. It can read payments "
                "and events. It must also write payment intents and refunds, which cannot be tested without doing so"
            )
    except PaymentsNotConfigured:
        problem = f"The {environment} environment has no keys"
    except PaymentProviderForbids:
        problem = "Stripe knows this key, but it can read neither the balance nor payments and events"
    except (PaymentProviderRefused, PaymentProviderRejects):
        problem = "Stripe does not accept this key"
    except PaymentProviderUnavailable:
        problem = "Stripe does not answer"
    return TryProviderReply(ok=problem is None, problem=problem, note=note)


add_history_routes(router, SECTIONS)


async def _provider(session: Session, editor: ConfigurationEditor, environment: Environment) -> ProviderReply:
    version = await editor.find(session, PROVIDER_SECTIONS[environment])
    shown = version.document or {"publishable_key": None, "secret_key_tail": None, "webhook_secret_tail": None}
    readable = version.source == "settings" or await editor.is_readable(session, environment)
    return ProviderReply(**state_of(version), **shown, environment=environment, readable=readable)
