"""`/admin/config`: prices, products, defaults and payment providers; changes reach every process within a second."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.admin.audit.log import Admin
from app.admin.configuration.schemas import (
    CatalogueReply,
    ChangeFields,
    DefaultsBody,
    DefaultsReply,
    PacksBody,
    PacksReply,
    ProductsBody,
    ProviderBody,
    ProviderReply,
    ProvidersReply,
    SettingsReply,
    TryProviderBody,
    TryProviderReply,
    VersionReply,
    VersionsReply,
    state_of,
)
from app.admin.dependencies import Administrator, Db, Viewer
from app.auth.caller import Environment
from app.auth.guarded_route import GuardedRoute
from app.configuration.documents import PROVIDER_SECTIONS, Defaults, Document, Packs, Products, Section
from app.configuration.editing import Change, ConfigurationEditor, Version
from app.db import Database, Session
from app.http.schemas import ERRORS, ErrorReply
from app.payments.errors import (
    PaymentProviderForbids,
    PaymentProviderRefused,
    PaymentProviderRejects,
    PaymentProviderUnavailable,
    PaymentsNotConfigured,
)
from app.payments.gateway import StripeGateway
from app.settings import Settings

CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorReply}}
ENVIRONMENTS: dict[Section, Environment] = {section: name for name, section in PROVIDER_SECTIONS.items()}
router = APIRouter(prefix="/admin/config", tags=["admin: configuration"], responses=ERRORS, route_class=GuardedRoute)


async def configuration_editor(request: Request) -> ConfigurationEditor:
    editor: ConfigurationEditor = request.app.state.configuration_editor
    return editor


async def stripe_gateway(request: Request) -> StripeGateway:
    gateway: StripeGateway = request.app.state.gateway
    return gateway


Editor = Annotated[ConfigurationEditor, Depends(configuration_editor)]
Gateway = Annotated[StripeGateway, Depends(stripe_gateway)]


@router.get("/packs")
async def get_packs(admin: Viewer, db: Db, editor: Editor) -> PacksReply:
    """Return the packs on sale. The first one is the default of purchases that name no pack."""
    version = await _find(db, editor, "packs")
    return PacksReply(**state_of(version), **_document(version))


@router.put("/packs", responses=CONFLICT)
async def set_packs(body: PacksBody, admin: Administrator, db: Db, editor: Editor) -> PacksReply:
    """Replace the packs on sale. Open purchases keep their price."""
    document = body.model_dump(include=set(Packs.model_fields))
    version = await _change(admin, db, editor, "packs", document, body)
    return PacksReply(**state_of(version), **_document(version))


@router.get("/products")
async def get_products(admin: Viewer, db: Db, editor: Editor) -> CatalogueReply:
    version = await _find(db, editor, "products")
    return CatalogueReply(**state_of(version), **_document(version))


@router.put("/products", responses=CONFLICT)
async def set_products(body: ProductsBody, admin: Administrator, db: Db, editor: Editor) -> CatalogueReply:
    """Replace the catalogue. Users keep what they have of a removed product, for when it returns."""
    document = body.model_dump(include=set(Products.model_fields))
    version = await _change(admin, db, editor, "products", document, body)
    return CatalogueReply(**state_of(version), **_document(version))


@router.get("/defaults")
async def get_defaults(admin: Viewer, db: Db, editor: Editor) -> DefaultsReply:
    version = await _find(db, editor, "defaults")
    return DefaultsReply(**state_of(version), **_document(version))


@router.put("/defaults", responses=CONFLICT)
async def set_defaults(body: DefaultsBody, admin: Administrator, db: Db, editor: Editor) -> DefaultsReply:
    """Set the start values of new accounts, and daily free uses: used allowances change on the next UTC day."""
    document = body.model_dump(include=set(Defaults.model_fields))
    version = await _change(admin, db, editor, "defaults", document, body)
    return DefaultsReply(**state_of(version), **_document(version))


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
            _by(admin, body),
            publishable_key=body.publishable_key,
            secret_key=body.secret_key,
            webhook_secret=body.webhook_secret,
        )
        await _record(admin, tx, PROVIDER_SECTIONS[environment], before, after)
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


@router.get("/{section}/versions")
async def list_versions(
    section: Section,
    admin: Viewer,
    db: Db,
    editor: Editor,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> VersionsReply:
    """List every version that admins have set, newest first."""
    async with db.read() as session:
        versions = await editor.versions(session, section, before=cursor, limit=limit + 1)
    return VersionsReply(
        section=section,
        versions=[
            VersionReply(**{name: getattr(version, name) for name in VersionReply.model_fields})
            for version in versions[:limit]
        ],
        next_cursor=versions[limit - 1].version if len(versions) > limit else None,
    )


@router.get("/{section}/settings")
async def get_section_of_settings(section: Section, admin: Viewer, editor: Editor) -> SettingsReply:
    """Return the settings' values, which a reset would restore."""
    return SettingsReply(section=section, document=editor.from_settings(section))


@router.post("/{section}/reset", responses=CONFLICT)
async def reset_section(
    section: Section, body: ChangeFields, admin: Administrator, db: Db, editor: Editor
) -> VersionsReply:
    """Restore the settings' values; a provider's stored keys are deleted. Return the section's newest version."""
    async with db.transaction() as tx:
        before, after = await editor.reset(tx, section, _by(admin, body))
        await _record(admin, tx, section, before, after)
    return await list_versions(section, admin, db, editor, limit=1, cursor=None)


def _document(version: Version) -> Document:
    assert version.document is not None  # the settings always have one, except for providers
    return version.document


async def _find(db: Database, editor: ConfigurationEditor, section: Section) -> Version:
    async with db.read() as session:
        return await editor.find(session, section)


async def _change(
    admin: Admin, db: Database, editor: ConfigurationEditor, section: Section, document: Document, body: ChangeFields
) -> Version:
    async with db.transaction() as tx:
        before, after = await editor.change(tx, section, document, _by(admin, body))
        await _record(admin, tx, section, before, after)
    return after


def _by(admin: Admin, body: ChangeFields) -> Change:
    return Change(body.version, body.reason, admin.caller.email, admin.caller.admin_id, admin.now)


async def _record(admin: Admin, tx: Session, section: Section, before: Version, after: Version) -> None:
    if before.version == after.version:
        return
    await admin.record(
        tx,
        "config.change",
        "config",
        section,
        environment=ENVIRONMENTS.get(section),
        before={"version": before.version, "document": before.document},
        after={"version": after.version, "document": after.document},
        reason=after.reason,
    )


async def _provider(session: Session, editor: ConfigurationEditor, environment: Environment) -> ProviderReply:
    version = await editor.find(session, PROVIDER_SECTIONS[environment])
    shown = version.document or {"publishable_key": None, "secret_key_tail": None, "webhook_secret_tail": None}
    readable = version.source == "settings" or await editor.is_readable(session, environment)
    return ProviderReply(**state_of(version), **shown, environment=environment, readable=readable)
