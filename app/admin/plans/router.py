"""`/admin/plans`: the plans with their subscribers and versions. A plan is withdrawn, never deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.admin.configuration.schemas import ChangeFields
from app.admin.configuration.section_routes import CONFLICT, Editor, by
from app.admin.dependencies import Administrator, Db, Viewer
from app.admin.plans import queries
from app.admin.plans.kept import Kept, changes_of, merged, subscribers_of
from app.admin.plans.schemas import (
    KeptTermsReply,
    PlanReply,
    PlanRow,
    PlansOverviewReply,
    PlanVersionReply,
)
from app.auth.caller import Environment
from app.auth.guarded_route import GuardedRoute
from app.configuration.editing import ConfigurationEditor, Version
from app.configuration.errors import ConfigurationChanged
from app.configuration.sections import PLANS
from app.db import Session
from app.http.schemas import ERRORS, ErrorReply
from app.plans.document import Plan, Plans
from app.setting_values import Slug
from app.subscriptions.errors import PlanNotFound

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
PAGE = 50
router = APIRouter(prefix="/admin/plans", tags=["admin: plans"], responses=ERRORS, route_class=GuardedRoute)


@router.get("")
async def list_plans_with_subscribers(
    admin: Viewer, db: Db, editor: Editor, environment: Environment = "live"
) -> PlansOverviewReply:
    """List all plans with their subscribers, those for sale first."""
    async with db.read() as session:
        current = await editor.find(session, PLANS)
        kept = await _kept_by_plan(session, environment, None)
    plans = sorted(_plans(current).plans, key=lambda plan: (plan.withdrawn, plan.order, plan.name))
    return PlansOverviewReply(
        environment=environment,
        version=current.version,
        plans=[PlanRow(**_figures(plan, kept.get(plan.name, []))) for plan in plans],
    )


@router.get("/{name}", responses=NOT_FOUND)
async def get_plan_with_versions(
    name: Slug,
    admin: Viewer,
    db: Db,
    editor: Editor,
    environment: Environment = "live",
    cursor: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> PlanReply:
    """Return a plan, the versions that its subscribers keep, and a page of the versions that changed it."""
    async with db.read() as session:
        current = await editor.find(session, PLANS)
        kept = (await _kept_by_plan(session, environment, name)).get(name, [])
        found = await editor.versions(session, PLANS, before=cursor, limit=PAGE + 1)
    plan = _plans(current).find(name)
    if plan is None:
        raise PlanNotFound
    versions, before = _with_documents(found, editor)
    return PlanReply(
        **_figures(plan, kept),
        environment=environment,
        version=current.version,
        kept=[KeptTermsReply(**{field: getattr(one, field) for field in KeptTermsReply.model_fields}) for one in kept],
        versions=[
            PlanVersionReply(
                plan=changed.plan,
                subscribers=subscribers_of(changed.plan, kept),
                **{
                    field: getattr(changed.version, field)
                    for field in ("version", "reason", "changed_by", "changed_at")
                },
            )
            for changed in changes_of(name, versions, before)
        ],
        next_cursor=versions[-1].version if len(found) > PAGE else None,
    )


@router.post("/{name}/withdraw", responses={**NOT_FOUND, **CONFLICT})
async def withdraw_plan(name: Slug, body: ChangeFields, admin: Administrator, db: Db, editor: Editor) -> PlanRow:
    """Withdraw a plan: it is no longer sold or listed. Its subscribers keep it, and it renews for them."""
    async with db.transaction() as tx:
        current = await editor.find(tx, PLANS)
        if _plans(current).find(name) is None:
            raise PlanNotFound
        if current.version != body.version:
            raise ConfigurationChanged(PLANS.name, current.version)
        document = dict(current.document or {})
        document["plans"] = [
            {**plan, "withdrawn": plan["name"] == name or plan["withdrawn"]} for plan in document["plans"]
        ]
        before, after = await editor.change(tx, PLANS, document, by(admin, body))
        if before.version != after.version:
            await admin.record(
                tx,
                "plan.withdraw",
                "plan",
                name,
                before={"version": before.version, "withdrawn": False},
                after={"version": after.version, "withdrawn": True},
                reason=body.reason,
            )
        kept = (await _kept_by_plan(tx, "live", name)).get(name, [])
    plan = _plans(after).find(name)
    assert plan is not None
    return PlanRow(**_figures(plan, kept))


def _plans(version: Version) -> Plans:
    return Plans.model_validate(version.document)


def _figures(plan: Plan, kept: Sequence[Kept]) -> dict[str, Any]:
    subscribers = sum(one.subscribers for one in kept)
    return {
        "plan": plan,
        "subscribers": subscribers,
        "past_due": sum(one.past_due for one in kept),
        "on_earlier_terms": subscribers - subscribers_of(plan, kept),
    }


async def _kept_by_plan(session: Session, environment: Environment, name: str | None) -> Mapping[str, list[Kept]]:
    rows = await queries.list_kept_terms(session, environment, name)
    names = {row["plan_name"] for row in rows}
    return {each: merged(row for row in rows if row["plan_name"] == each) for each in names}


def _with_documents(
    found: Sequence[Version], editor: ConfigurationEditor
) -> tuple[list[Version], Mapping[str, Any] | None]:
    """Return the versions of a page, and the document before the oldest of them.

    A version without a document returned to the settings, which also precede the first version.
    """
    settings = editor.from_settings(PLANS)
    documents = [settings if version.document is None else version.document for version in found]
    versions = [replace(version, document=document) for version, document in zip(found, documents, strict=True)]
    return versions[:PAGE], documents[PAGE] if len(found) > PAGE else settings
