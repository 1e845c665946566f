"""`ciris-billing prices rerate`: shows what other prices change about a period's usage, and corrects it."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from app.admin.audit.log import record_by_system
from app.cli.output import AsJson, say_not_applied, show
from app.cli.running import FAILED, EnvironmentChoice, EnvironmentOption, run
from app.clock import utc_now
from app.db import Database
from app.ledger.errors import BalanceLimitExceeded
from app.ledger.money import decimal_text
from app.pricing.service import PriceBooks
from app.rerating.service import Effect, Period, Reratings
from app.settings import Settings
from app.timestamps import bounded

TOTAL = "total"
COUNTS = ("events", "changed", "stated", "unpriced", "corrected_events")
AMOUNTS = ("old_nanos", "new_nanos", "recorded_old_nanos", "recorded_new_nanos", "corrected_nanos")
REFUSED = BalanceLimitExceeded.code


@dataclass(slots=True)
class _Report:
    """The accounts that a rerating concerns, and the totals of all accounts by currency."""

    listed: list[Effect] = field(default_factory=list)
    totals: dict[str, Effect] = field(default_factory=dict)
    accounts: dict[str, int] = field(default_factory=dict)

    def add(self, effect: Effect) -> None:
        total = self.totals.setdefault(effect.currency, Effect(UUID(int=0), effect.currency))
        for name in (*COUNTS, *AMOUNTS):
            setattr(total, name, getattr(total, name) + getattr(effect, name))
        self.accounts[effect.currency] = self.accounts.get(effect.currency, 0) + 1
        if effect.changed or effect.unpriced:
            self.listed.append(effect)

    def account_rows(self) -> list[dict[str, Any]]:
        return [{"account_id": str(effect.account_id), **_shown(effect)} for effect in self.listed]

    def total_rows(self) -> list[dict[str, Any]]:
        return [{"accounts": self.accounts[currency], **_shown(total)} for currency, total in self.totals.items()]


def prices_rerate(
    since: Annotated[str, typer.Option("--from", help="Usage from then on, as 2026-11-01T00:00:00Z; by its own time.")],
    until: Annotated[str | None, typer.Option("--to", help="Usage before then. Default: now.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Price by this version. Default: the versions in force by now.")
    ] = None,
    account: Annotated[UUID | None, typer.Option("--account-id", help="Only this account.")] = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
    apply: Annotated[bool, typer.Option("--apply", help="Correct the books. Without it, nothing is written.")] = False,
    reason: Annotated[str, typer.Option(help="Reason; kept in the audit log.")] = "Prices were corrected",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with the totals in the last lines.")] = False,
) -> None:
    """Price a period's usage again, and show the effect per account. With --apply, correct it.

    Repeating a run corrects nothing twice, also after it was interrupted.
    """
    times = moment(since, "--from"), utc_now() if until is None else moment(until, "--to")

    async def work(db: Database, settings: Settings) -> _Report:
        report = _Report()
        period = Period(environment.value, *times, version, account)
        async for effect in Reratings(db, PriceBooks(db), record_by_system).run(period, reason=reason, apply=apply):
            report.add(effect)
        return report

    report = run(work)
    facts = {
        "environment": environment.value,
        **{name: at.isoformat() for name, at in zip(("from", "to"), times, strict=True)},
        "version": version,
        "applied": apply,
    }
    _print(report, facts, as_json=as_json, as_csv=as_csv)
    if not apply:
        say_not_applied()
    failed = [effect for effect in report.listed if effect.skipped == REFUSED]
    for effect in failed:
        typer.echo(f"account {effect.account_id}: its amounts would no longer fit 64 bits", err=True)
    if failed:
        raise typer.Exit(FAILED)


def _shown(effect: Effect) -> dict[str, Any]:
    """Return an effect as the command prints it: amounts as exact decimal text of the major unit."""
    return {
        "currency": effect.currency,
        "events": effect.events,
        "changed": effect.changed,
        "old": decimal_text(effect.old_nanos),
        "new": decimal_text(effect.new_nanos),
        "difference": decimal_text(effect.new_nanos - effect.old_nanos),
        "recorded_difference": decimal_text(effect.recorded_new_nanos - effect.recorded_old_nanos),
        "stated": effect.stated,
        "unpriced": effect.unpriced,
        "corrected_events": effect.corrected_events,
        "corrected": decimal_text(effect.corrected_nanos),
        "skipped": effect.skipped,
    }


def _print(report: _Report, facts: dict[str, Any], *, as_json: bool, as_csv: bool) -> None:
    accounts, totals = report.account_rows(), report.total_rows()
    if as_json:
        typer.echo(json.dumps({**facts, "accounts": accounts, "totals": totals}, indent=2))
    elif as_csv:
        _print_csv([*accounts, *({**total, "account_id": TOTAL} for total in totals)])
    else:
        show(accounts, as_json=False)
        show([{TOTAL: total.pop("currency"), **total} for total in totals], as_json=False)


def _print_csv(rows: Sequence[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, ("account_id", *_shown(Effect(UUID(int=0), ""))), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)


def moment(text: str, option: str) -> datetime:
    """Return the time of an option, in UTC. Without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
        return bounded(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}", param_hint=option) from None
