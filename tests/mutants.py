"""`make mutants`: take away each lock, constraint and trigger in turn, and demand that a test notices.

A guarantee that no test misses is a guarantee that the next change may break unseen. Exit status 1 names the survivors.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.demo.postgres import ephemeral_cluster
from tests.databases import ADMIN_URL, CONSTRAINTS, MUTATION, ROOT, TEMPLATE, prepare, urls

NO_SOURCE = (".git", ".venv", ".tools", ".*_cache", ".hypothesis", "__pycache__", "node_modules", "dist", "site", "var")
CHARGES = "tests/billing/test_charges.py"
LOCKED = "tests/billing/test_locked_accounts.py"
ADMISSION = "tests/test_admission.py"
SHARED = "tests/auth/test_shared_limits.py"
ALERTS = "tests/risk/test_alerts.py"
GRANTS = "tests/wallet/test_grants.py"
WALLET_LEDGER = "tests/wallet/test_ledger.py"
MONEY = "tests/wallet/test_money_credits.py"
HOLDS = "tests/holds"
MONEY_DAYS = "tests/admin/test_money_days.py"
USAGE_EVENTS = "tests/metering/test_usage_events_http.py"


@dataclass(frozen=True)
class Mutant:
    """Something taken away, and the tests that should miss it."""

    name: str
    tests: tuple[str, ...]
    sql: str = ""
    file: str = ""
    old: str = ""
    new: str = ""


CODE = [
    Mutant(
        "the lock of an account",
        ("tests/billing", "tests/tools", "tests/payments"),
        file="app/ledger/queries.py",
        old='_LOCK_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE"',
        new="_LOCK_ACCOUNTS = _ACCOUNTS_IN_ORDER",
    ),
    Mutant(
        "the lock of a batch of charges and holds",
        (CHARGES, HOLDS),
        file="app/ledger/queries.py",
        old='_LOCK_FREE_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE SKIP LOCKED"',
        new="_LOCK_FREE_ACCOUNTS = _ACCOUNTS_IN_ORDER",
    ),
    Mutant(
        "the rule that the first settlement of a hold counts",
        (HOLDS,),
        file="app/holds/deciding.py",
        old='        if hold.status != "held":\n            return recaptured(request, hold)\n',
        new="",
    ),
    Mutant(
        "the exception of named holds when due ones are settled",
        (HOLDS,),
        file="app/holds/service.py",
        old="places = [place for place in batch.holds if place not in named]",
        new="places = list(batch.holds)",
    ),
    Mutant(
        "skipping of accounts that somebody else has locked",
        (LOCKED,),
        file="app/ledger/queries.py",
        old="FOR NO KEY UPDATE SKIP LOCKED",
        new="FOR NO KEY UPDATE",
    ),
    Mutant(
        "the look at used keys under the lock",
        (CHARGES,),
        file="app/billing/service.py",
        old="used = {key: charge_of(row) for key, row in rows.items()}",
        new="used: dict[tuple[UUID, str], Charge] = {}",
    ),
    Mutant(
        "the replay of a key without a lock",
        (LOCKED,),
        file="app/ledger/batching.py",
        old="replay = await operation.find_replay(request)",
        new="replay = None",
    ),
    Mutant(
        "the look at used keys of tool charges under the lock",
        ("tests/tools",),
        file="app/tools/service.py",
        old="await queries.find_usages_by_keys(tx, keys)",
        new="{}",
    ),
    Mutant(
        "the replay of a key without a lock, of a key that this process has not seen",
        (LOCKED,),
        file="app/ledger/group_commit.py",
        old="                self._look_up(waiting)",
        new="                pass",
    ),
    Mutant(
        "the waiting for an identity that is being created",
        ("tests/billing/test_accounts.py",),
        file="app/accounts/queries.py",
        old="        ON CONFLICT DO NOTHING RETURNING account_id",
        new="        RETURNING account_id",
    ),
    Mutant(
        "the concurrency limit",
        (ADMISSION,),
        file="app/http/middleware.py",
        old="        if self.limiter.is_full:\n            self.limiter",
        new="        if False:\n            self.limiter",
    ),
    Mutant(
        "the wait for a body before its request is inside",
        (ADMISSION,),
        file="app/http/middleware.py",
        old='if slot is None and not message.get("more_body"):',
        new="if slot is None:",
    ),
    Mutant(
        "the concurrency limit when a body is complete",
        (ADMISSION,),
        file="app/http/middleware.py",
        old="                if self.limiter.is_full:",
        new="                if False:",
    ),
    Mutant(
        "the permission that a route requires",
        ("tests/auth/test_key_route.py", "tests/auth/test_authentication.py"),
        file="app/auth/dependencies.py",
        old="caller.require(self._permission)",
        new="pass",
    ),
    Mutant(
        "the refusal of a key that is sent twice",
        ("tests/test_hostile_clients.py",),
        file="app/auth/dependencies.py",
        old="if len(keys) > 1:",
        new="if False:",
    ),
    Mutant(
        "the refusal of two subjects",
        ("tests/auth/test_certificates.py",),
        file="app/auth/client_certificate.py",
        old="if len(subjects) != 1:",
        new="if not subjects:",
    ),
    Mutant(
        "repeating a report that Redis may not have received",
        (SHARED,),
        file="app/auth/rate_limits/redis_buckets.py",
        old="                self._keep(report)",
        new="                pass",
    ),
    Mutant(
        "the level instead of the use, for an unconfirmed report",
        (SHARED,),
        file="app/auth/rate_limits/redis_buckets.py",
        old="self._unreported.setdefault(name, _Use()).is_unconfirmed = True",
        new="self._unreported[name] = report[name]",
    ),
    Mutant(
        "the shared bucket of wrong secrets",
        (SHARED,),
        file="app/auth/api_keys/verifier.py",
        old="self._buckets.take(bucket, WRONG_PER_MINUTE, clock())",
        new="pass",
    ),
    Mutant(
        "the lock of an alert",
        (ALERTS,),
        file="app/risk/queries.py",
        old="select(*_ALERT).where(Alert.alert_id == alert_id).with_for_update()",
        new="select(*_ALERT).where(Alert.alert_id == alert_id)",
    ),
    Mutant(
        "the look at who stopped an account, before it is stopped",
        (ALERTS,),
        file="app/accounts/service.py",
        old='if account.status != "active" and account.status_reason not in replaces:',
        new="if False:",
    ),
    Mutant(
        "the look at who stopped an account, before it goes on",
        (ALERTS,),
        file="app/accounts/service.py",
        old='if account.status != "suspended" or account.status_reason not in reasons:',
        new="if False:",
    ),
    Mutant(
        "the other alert that stops an account",
        (ALERTS,),
        file="app/risk/service.py",
        old="if other is None:",
        new="if True:",
    ),
    Mutant(
        "the forgetting of an erased person's card",
        ("tests/payments/test_webhooks.py",),
        file="app/payments/settlement.py",
        old="if account.erased_at is not None:",
        new="if False:",
    ),
    Mutant(
        "the refusal of values that an older version cannot read",
        (GRANTS, MONEY),
        file="app/db/version_mark.py",
        old="        if self._oldest < revision:\n            raise",
        new="        if False:\n            raise",
    ),
    Mutant(
        "the look at used keys of grants under the lock",
        (GRANTS,),
        file="app/wallet/service.py",
        old="row = await queries.find_grant_by_key(tx, account_id, actor.kind, idempotency_key)",
        new="row = None",
    ),
    Mutant(
        "the look at used keys of money under the lock",
        (MONEY,),
        file="app/wallet/money_credits.py",
        old="row = await queries.find_money_credit_by_key(tx, account_id, actor.kind, idempotency_key)",
        new="row = None",
    ),
    Mutant(
        "the expiry of grants before an entry",
        (WALLET_LEDGER,),
        file="app/ledger/locked_account.py",
        old="        self._expire_due(now)\n        balance",
        new="        balance",
    ),
    Mutant(
        "the moment at which a grant expires",
        (WALLET_LEDGER, "tests/wallet/test_spending.py"),
        file="app/ledger/lots.py",
        old="self.expires_at <= now",
        new="self.expires_at < now",
    ),
    Mutant(
        "the room that grants take beside paid credits",
        (WALLET_LEDGER,),
        file="app/ledger/locked_account.py",
        old="return MAX_CREDITS - self.grants_credits - self.held_credits",
        new="return MAX_CREDITS",
    ),
    Mutant(
        "the bound on open grants",
        (WALLET_LEDGER,),
        file="app/ledger/locked_account.py",
        old="            raise TooManyGrants",
        new="            pass",
    ),
    Mutant(
        "the skipping of locked accounts when grants expire",
        (WALLET_LEDGER,),
        file="app/wallet/expiry.py",
        old="lock_accounts(tx, due, skip_locked=True)",
        new="lock_accounts(tx, due)",
    ),
    Mutant(
        "the debt that a purchase of money pays first",
        (WALLET_LEDGER,),
        file="app/ledger/locked_account.py",
        old="        if kind in PAYS_DEBT:\n            self.pay_debt(",
        new="        if False:\n            self.pay_debt(",
    ),
    Mutant(
        "the look at used ids of usage events under the lock",
        ("tests/metering/test_usage_races.py",),
        file="app/metering/service.py",
        old="                batch.known[key] = _known(row)",
        new="                pass",
    ),
    Mutant(
        "the refusal of usage that money does not cover",
        ("tests/metering/test_usage.py",),
        file="app/metering/deciding.py",
        old="if owed and not self._may_owe(case):",
        new="if False:",
    ),
    Mutant(
        "the limit of debt by usage",
        (USAGE_EVENTS,),
        file="app/metering/deciding.py",
        old='if owed and account.balances["money_debt"] + owed > terms.debt_limit_nanos:',
        new="if False:",
    ),
    Mutant(
        "the lock of a cost record without a user",
        ("tests/metering/test_cost_records_races.py",),
        file="app/cost_records/queries.py",
        old="AND record_id = $2 FOR NO KEY UPDATE",
        new="AND record_id = $2",
    ),
    Mutant(
        "the lock of the sums by day",
        ("tests/admin/test_analytics.py",),
        file="app/analytics/rollup.py",
        old="FROM rollup_state WHERE name = 'analytics' FOR UPDATE",
        new="FROM rollup_state WHERE name = 'analytics'",
    ),
    Mutant(
        "the day of a usage event's own time",
        (MONEY_DAYS,),
        file="app/analytics/sources.py",
        old="CAST(e.occurred_at AT TIME ZONE 'UTC' AS date) AS day",
        new="CAST(e.created_at AT TIME ZONE 'UTC' AS date) AS day",
    ),
    Mutant(
        "the separate mark of grants and usage events",
        (MONEY_DAYS,),
        file="app/analytics/sources.py",
        old='"metered_up_to": row.metered_up_to',
        new='"metered_up_to": row.rolled_up_to',
    ),
]


async def schema_mutants() -> list[Mutant]:
    connection = await asyncpg.connect(urls(TEMPLATE).superuser)
    rows = await connection.fetch(CONSTRAINTS)
    await connection.close()
    constraints = [
        Mutant(
            f"{row['table_name']}: {row['name']}",
            (f"tests/test_constraints.py::test_violation_is_refused[{row['name']}]",),
            sql=f"DROP INDEX {row['name']}"
            if row["is_index"]
            else f"ALTER TABLE {row['table_name']} DROP CONSTRAINT {row['name']} CASCADE",
        )
        for row in rows
    ]
    trigger = Mutant(
        "ledger_entries: the trigger that refuses changes",
        ("tests/billing",),
        sql="DROP TRIGGER ledger_entries_append_only ON ledger_entries",
    )
    return [*constraints, trigger]


def mutated_tree(mutant: Mutant) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ciris-billing-mutant-") as folder:
        tree = Path(folder) / "project"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NO_SOURCE))
        if mutant.file:
            target = tree / mutant.file
            source = target.read_text(encoding="utf-8")
            if source.count(mutant.old) != 1:
                raise SystemExit(f"{mutant.name}: {mutant.file} does not hold the mutated text once")
            target.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        yield tree


def survives(mutant: Mutant) -> bool:
    """Whether all its tests pass although something is missing."""
    env = {name: value for name, value in os.environ.items() if name != ADMIN_URL} | {MUTATION: mutant.sql}
    for tree in mutated_tree(mutant):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{mutant.name}: pytest could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> int:
    with ephemeral_cluster() as cluster:
        prepare(cluster)
        mutants = CODE + asyncio.run(schema_mutants())
    words = sys.argv[1:]
    survivors = []
    for mutant in mutants:
        if words and not any(word in mutant.name for word in words):
            continue
        alive = survives(mutant)
        print(f"{'SURVIVED' if alive else 'noticed ':<9} without {mutant.name}", flush=True)
        if alive:
            survivors.append(mutant.name)
    print(f"{len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
