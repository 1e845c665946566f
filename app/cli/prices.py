"""`ciris-billing prices`: import, compare, confirm and activate price books."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer

from app.cli.output import AsJson, show
from app.cli.rerate import moment, prices_rerate
from app.cli.running import FAILED, run
from app.clock import utc_now
from app.db import Database
from app.pricing import editing, history, seed
from app.pricing.book import BookDocument, LlmRow
from app.pricing.comparison import Change, compare
from app.pricing.editing import Author, Version
from app.pricing.importing import command as importing
from app.pricing.reachability import unreachable
from app.settings import Settings

prices_cli = typer.Typer(help="Price books of usage.", no_args_is_help=True)
prices_cli.command("rerate")(prices_rerate)

OPERATOR = "ciris-billing"
MAX_ROWS = 100_000
VersionNumber = Annotated[int, typer.Argument(min=1, help="The version, from `prices list`.")]
Reason = Annotated[str, typer.Option(help="Reason of the change; kept with it.")]


def _author(reason: str) -> Author:
    return Author(OPERATOR, None, reason, utc_now())


@prices_cli.command("import")
def prices_import(
    reason: Reason = "Import of open price data",
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Take the data that this version ships; needs no package.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the document to this file and use no database. For the shipped data.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Propose a price book from open price data. Nothing is in force until `prices activate`.

    Reads the packages genai-prices and model-prices (the extra `prices`). The rows, rules and decisions of the version
    in force stay.
    """
    if write is not None:
        seed.write(_made(lambda: importing.from_packages(None, utc_now())).document, write)
        return

    async def work(db: Database, settings: Settings) -> tuple[int | None, importing.Proposal]:
        author = _author(reason)
        base = await importing.find_base(db, author.now)
        proposal = importing.from_seed(base) if shipped else _made(lambda: importing.from_packages(base, author.now))
        async with db.transaction() as tx:
            version, _ = await importing.store(tx, proposal, author)
        return version, proposal

    version, proposal = run(work)
    kinds = [change.kind for change in proposal.changes]
    report = {
        "version": version,
        "based_on": proposal.based_on,
        "rows": len(proposal.document.llm),
        **{status: proposal.statuses.get(status, 0) for status in ("agreed", "single_source", "disputed", "confirmed")},
        **{kind: kinds.count(kind) for kind in ("added", "removed", "changed")},
        "skipped": len(proposal.skipped),
    }
    if version is None:
        typer.echo("Nothing has changed: no version was proposed", err=True)
    show([report], as_json, single=True)


def _made(read: Callable[[], importing.Proposal]) -> importing.Proposal:
    try:
        return read()
    except ImportError as error:
        typer.echo(
            f"{error.name or error} is not installed: pip install 'ciris-billing[prices]', or use --shipped", err=True
        )
        raise typer.Exit(FAILED) from None


@prices_cli.command("propose")
def prices_propose(
    file: Annotated[Path, typer.Argument(help="A document, as `prices show --document` prints it.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Propose a price book from a file. Nothing is in force until `prices activate`."""
    try:
        document = BookDocument.model_validate_json(file.read_bytes())
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None
    except pydantic.ValidationError as error:
        for problem in error.errors():
            where = ".".join(map(str, problem["loc"])) or "document"
            typer.echo(f"{where}: {problem['msg']}", err=True)
        raise typer.Exit(FAILED) from None
    if problems := unreachable(document):
        typer.echo("\n".join(problems), err=True)
        raise typer.Exit(FAILED)

    async def work(db: Database, settings: Settings) -> int:
        async with db.transaction() as tx:
            return await editing.propose(tx, document, _author(reason))

    show([{"version": run(work)}], as_json, single=True)


@prices_cli.command("list")
def prices_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest versions only.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the versions, newest first, with the time from which each is or will be in force."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            return await history.list_versions(session, utc_now(), limit=limit)

    show(run(work), as_json)


@prices_cli.command("show")
def prices_show(
    version: VersionNumber,
    status: Annotated[str | None, typer.Option(help="Only rows of this status, such as disputed.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only rows of this provider.")] = None,
    document: Annotated[bool, typer.Option("--document", help="Print the whole document as JSON.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the models of a version, and what other sources say about disputed ones."""
    found = run(lambda db, _: _find(db, version))
    if document:
        typer.echo(found.document.model_dump_json(indent=2))
        return
    rows = [
        _shown(row) for row in found.document.llm if status in (None, row.status) and provider in (None, row.provider)
    ]
    show(rows, as_json)


def _shown(row: LlmRow) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in ("id", "status", "aliases", "valid_from", "source", "source_version")}
    others = [
        f"{other.source} {other.source_version}: {_prices(other.tariff.prices)}"
        + (f" ({other.note})" if other.note else "")
        for other in row.others
        if other.tariff is not None
    ]
    return shown | {"prices": _prices(row.prices), "steps": len(row.steps), "others": others, "note": row.note or None}


def _prices(prices: Any) -> str:
    return " ".join(f"{name}={price}" for name, price in prices.items())


async def _find(db: Database, version: int) -> Version:
    async with db.read() as session:
        return await editing.find_version(session, version)


@prices_cli.command("diff")
def prices_diff(
    version: VersionNumber,
    against: Annotated[
        int | None, typer.Option(min=1, help="The version before. Default: the one in force, else none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a version changes, price by price. Exits with 0 whether or not there is a difference."""

    async def work(db: Database, settings: Settings) -> list[Change]:
        after = await _find(db, version)
        async with db.read() as session:
            if against is not None:
                before: Version | None = await editing.find_version(session, against)
            else:
                before = await editing.find_in_force(session, after.document.currency, utc_now())
        return compare(None if before is None else before.document, after.document)

    names = ("kind", "section", "row", "field", "before", "after")
    show([{name: getattr(change, name) for name in names} for change in run(work)], as_json)


@prices_cli.command("activate")
def prices_activate(
    version: VersionNumber,
    reason: Reason,
    at: Annotated[
        str | None,
        typer.Option(help="From when on, as 2026-12-01T00:00:00Z. Default: now. Events have their own time."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a version in force for its currency. Stored events keep their price until `prices rerate --apply`."""
    effective_at = None if at is None else moment(at, "--at")

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        author = _author(reason)
        from_then = effective_at or author.now
        async with db.transaction() as tx:
            await editing.activate(tx, version, from_then, author)
        return {"version": version, "effective_at": from_then}

    show([run(work)], as_json, single=True)


@prices_cli.command("confirm")
def prices_confirm(
    version: VersionNumber,
    row: Annotated[list[str], typer.Option(help="Id of a disputed row. May be given several times.")],
    reason: Reason,
    source: Annotated[
        str | None, typer.Option(help="The source whose prices are right. Default: the row's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Confirm disputed rows in a new version, which then has to be activated."""

    async def work(db: Database, settings: Settings) -> int:
        async with db.transaction() as tx:
            return await editing.confirm(tx, version, dict.fromkeys(row, source), _author(reason))

    show([{"version": run(work)}], as_json, single=True)


@prices_cli.command("unknown")
def prices_unknown(as_json: AsJson = False) -> None:
    """List the models that usage named and no price book priced, the last seen first."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            return await history.list_unknown_models(session, limit=MAX_ROWS)

    show(run(work), as_json)
