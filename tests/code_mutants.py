"""Mutants of the code: a decision taken away, and the tests that notice it. `make mutants` runs them."""

from dataclasses import dataclass

from tests.control_mutants import CONTROL
from tests.plan_mutants import PLANS
from tests.refill_mutants import REFILLS

CHARGES = "tests/billing/test_charges.py"
LOCKED = "tests/billing/test_locked_accounts.py"
ADMISSION = "tests/test_admission.py"
SHARED = "tests/auth/test_shared_limits.py"
ALERTS = "tests/risk/test_alerts.py"
GRANTS = "tests/wallet/test_grants.py"
WALLET_LEDGER = "tests/wallet/test_ledger.py"
MONEY = "tests/wallet/test_money_credits.py"
HOLDS = "tests/holds"
LIMITS = "tests/limits"
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
        "the counters of a transaction",
        (LIMITS,),
        file="app/ledger/limit_queries.py",
        old="        batcher.after_deciding(self._store)\n",
        new="",
    ),
    Mutant(
        "what a new limit's window has spent",
        (LIMITS,),
        file="app/limits/service.py",
        old="        limit.count(await queries.sum_spent(tx, limit, now), now)\n",
        new="",
    ),
    Mutant(
        "the correction of what a hold was counted with",
        (LIMITS,),
        file="app/holds/deciding.py",
        old="less, uses = hold.captured - hold.amount, 0 if amount else -1",
        new="less, uses = 0, 0",
    ),
    Mutant(
        "the bound of a capture beyond its hold",
        (LIMITS,),
        file="app/ledger/limits.py",
        old="room = min([spending.amount, *(limit.room",
        new="room = min([spending.amount * 2, *(limit.room",
    ),
    Mutant(
        "the person who raises a limit",
        (LIMITS,),
        file="app/limits/service.py",
        old="if amount > before and not may_raise:",
        new="if False:",
    ),
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
        old="        if not await self.excludes_before(revision):\n            raise",
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
        old="if owed > max(0, room):",
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
    *(
        Mutant(name, ("tests/receipts",), file=f"app/{file}", old=old, new=new)
        for name, file, old, new in (
            (
                "the hash before an entry in its own",
                "receipts/queries.py",
                'hash=hash_of("c.hash")',
                "hash=hash_of(\"''\")",
            ),
            (
                "the actor in the hash of an entry",
                "receipts/canonical.py",
                '    "actor_id": _netstring("e.actor_id"),\n',
                "",
            ),
            (
                "the stop of a chain at a gap",
                "receipts/queries.py",
                "n.entry_no = c.entry_no + 1",
                "n.entry_no > c.entry_no",
            ),
            (
                "the hash of an entry that others chained",
                "receipts/queries.py",
                "ON CONFLICT (account_id, entry_no) DO NOTHING",
                "",
            ),
            ("the bound of a step", "receipts/queries.py", "c.is_head OR c.entry_no % {span} <> 0", "true"),
            (
                "the environment of a statement",
                "receipts/service.py",
                'if account["environment"] != environment:',
                "if False:",
            ),
            (
                "the bound of a request's work",
                "receipts/service.py",
                "STEPS_OF_A_REQUEST = 5",
                "STEPS_OF_A_REQUEST = 500",
            ),
            ("the gap in a chain", "receipts/checks.py", "before_no <> c.entry_no - 1", "false"),
            ("the missing entry of a hash", "receipts/checks.py", "e.account_id IS NULL", "false"),
            ("the comparison of key and private key", "signing_keys.py", "if self.d is not None and", "if False and"),
        )
    ),
    *(
        Mutant(name, tests, file=f"app/{file}", old=old, new=new)
        for name, tests, file, old, new in (*CONTROL, *PLANS, *REFILLS)
    ),
]
