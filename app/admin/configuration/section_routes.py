"""Routes that every section of the configuration has, derived from its declaration: read, change, history, reset."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, create_model

from app.admin.audit.log import Admin
from app.admin.configuration.schemas import (
    ChangeFields,
    SectionOfSettings,
    VersionReply,
    Versions,
    body_of,
    reply_of,
    state_of,
)
from app.admin.dependencies import Administrator, Db, Viewer
from app.configuration.editing import Change, ConfigurationEditor, Version
from app.configuration.section import Section
from app.db import Session
from app.http.schemas import ErrorReply

CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorReply}}


async def configuration_editor(request: Request) -> ConfigurationEditor:
    editor: ConfigurationEditor = request.app.state.configuration_editor
    return editor


Editor = Annotated[ConfigurationEditor, Depends(configuration_editor)]


def add_editing_routes(router: APIRouter, sections: Sequence[Section[Any]]) -> None:
    """Add `GET` and `PUT /{name}` of each section that admins edit."""
    for section in sections:
        if section.is_editable:
            _add_editing_routes_of(router, section)


def _add_editing_routes_of(router: APIRouter, section: Section[Any]) -> None:
    body_type, reply_type = body_of(section), reply_of(section)

    async def read(admin: Viewer, db: Db, editor: Editor) -> BaseModel:
        async with db.read() as session:
            return _reply(await editor.find(session, section))

    async def change(body: ChangeFields, admin: Administrator, db: Db, editor: Editor) -> BaseModel:
        document = body.model_dump(include=set(section.document.model_fields))
        async with db.transaction() as tx:
            before, after = await editor.change(tx, section, document, by(admin, body))
            await record(admin, tx, section, before, after)
        return _reply(after)

    def _reply(version: Version) -> BaseModel:
        assert version.document is not None  # the settings always have one
        return reply_type(**state_of(version), **version.document)

    router.add_api_route(
        f"/{section.name}",
        read,
        methods=["GET"],
        name=f"get_{section.name}",
        description=section.read_description,
        response_model=reply_type,
    )
    router.add_api_route(
        f"/{section.name}",
        _annotated(change, body=body_type),
        methods=["PUT"],
        name=f"set_{section.name}",
        description=section.change_description,
        response_model=reply_type,
        responses=CONFLICT,
    )


def add_history_routes(router: APIRouter, sections: Sequence[Section[Any]]) -> None:
    """Add the routes of all sections by name: their versions, the document of the settings, and the return to it."""
    by_name = {section.name: section for section in sections}
    names: Any = Literal[tuple(by_name)]
    versions_type = create_model("VersionsReply", __base__=Versions, section=(names, ...))
    settings_type = create_model("SettingsReply", __base__=SectionOfSettings, section=(names, ...))

    async def list_versions(
        section: str,
        admin: Viewer,
        db: Db,
        editor: Editor,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    ) -> Versions:
        """List the versions that admins have set, newest first."""
        async with db.read() as session:
            versions = await editor.versions(session, by_name[section], before=cursor, limit=limit + 1)
        return versions_type(
            section=section,
            versions=[
                VersionReply(**{name: getattr(version, name) for name in VersionReply.model_fields})
                for version in versions[:limit]
            ],
            next_cursor=versions[limit - 1].version if len(versions) > limit else None,
        )

    async def get_section_of_settings(section: str, admin: Viewer, editor: Editor) -> SectionOfSettings:
        """Return the document that a reset restores."""
        return settings_type(section=section, document=editor.from_settings(by_name[section]))

    async def reset_section(section: str, body: ChangeFields, admin: Administrator, db: Db, editor: Editor) -> Versions:
        """Reset the section to the settings, and delete a provider's stored keys. Return the newest versions."""
        async with db.transaction() as tx:
            before, after = await editor.reset(tx, by_name[section], by(admin, body))
            await record(admin, tx, by_name[section], before, after)
        return await list_versions(section, admin, db, editor, limit=1, cursor=None)

    for method, path, endpoint, reply_type in (
        ("GET", "versions", list_versions, versions_type),
        ("GET", "settings", get_section_of_settings, settings_type),
        ("POST", "reset", reset_section, versions_type),
    ):
        router.add_api_route(
            f"/{{section}}/{path}",
            _annotated(endpoint, section=names),
            methods=[method],
            response_model=reply_type,
            responses=CONFLICT if method == "POST" else None,
        )


def _annotated(endpoint: Callable[..., Any], **annotations: Any) -> Callable[..., Any]:
    """Give parameters of an endpoint types that exist only at run time. FastAPI reads annotations."""
    endpoint.__annotations__.update(annotations)
    return endpoint


def by(admin: Admin, body: ChangeFields) -> Change:
    return Change(body.version, body.reason, admin.caller.email, admin.caller.admin_id, admin.now)


async def record(admin: Admin, tx: Session, section: Section[Any], before: Version, after: Version) -> None:
    """Write the change to the audit log, unless it changed nothing."""
    if before.version == after.version:
        return
    await admin.record(
        tx,
        "config.change",
        "config",
        section.name,
        environment=section.environment,
        before={"version": before.version, "document": before.document},
        after={"version": after.version, "document": after.document},
        reason=after.reason,
    )
