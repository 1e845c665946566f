"""Initial data of the demo: keys, an admin, price books, and a user with paid credits."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.auth.admins.admins import add_admin
from app.auth.api_keys.keys import NO_TERMS, UsageTerms, parse_key
from app.auth.api_keys.service import create_key, list_keys
from app.auth.caller import Actor, Environment, Permission
from app.billing.service import BillingService
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.demo.price_books import prepare_price_books
from app.demo.stand_ins import ADMIN_EMAIL
from app.ledger.money import NANOS_PER_UNIT
from app.ledger.pools import Credits
from app.ledger.verification import last_verification
from app.settings import Settings

ACTOR = Actor("system", "demo")


@dataclass(frozen=True)
class Keys:
    """The texts of the demo's API keys."""

    api_key: str
    credit_key: str
    test_key: str
    usage_key: str
    money_key: str


PROVIDER = "oauth:google"
"""Identity provider of the demo's users: of the local sign-in, and of the `user_id`s that the last two keys send."""
PAID_USER = Identity("live", PROVIDER, "paid-user@example.com")
READ_WRITE = frozenset({Permission.READ, Permission.WRITE})
USAGE = frozenset({Permission.USAGE_READ, Permission.USAGE_WRITE, Permission.USAGE_SET_COST})
KEYS: dict[str, tuple[Environment, frozenset[Permission], UsageTerms]] = {
    "api_key": ("live", READ_WRITE, NO_TERMS),
    "credit_key": ("live", READ_WRITE | {Permission.CREDIT}, NO_TERMS),
    "test_key": ("test", READ_WRITE, NO_TERMS),
    "usage_key": ("live", USAGE, UsageTerms(PROVIDER, max_cost_nanos=100 * NANOS_PER_UNIT)),
    "money_key": ("live", frozenset({Permission.MONEY_CREDIT}), UsageTerms(PROVIDER)),
}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)


async def prepare(env: Mapping[str, str], state_dir: Path) -> tuple[Keys, bool]:
    """Create what is missing. Return the keys, and whether the database is new: no worker has verified its ledger yet.

    Idempotent.
    """
    settings = Settings.model_validate({"mode": "demo", "database_url": SecretStr(env["DATABASE_URL"])})
    db = Database(settings.database_url, pool_size=2)
    try:
        now = utc_now()
        async with db.transaction() as tx:
            await add_admin(tx, ADMIN_EMAIL, "admin", now=now)
        await prepare_price_books(db, now)
        billing = BillingService(db, Configuration(db, settings))
        account_id = await billing.accounts.directory.resolve(PAID_USER, Profile(display_name="Paid User"), ACTOR, now)
        await billing.credit(
            account_id,
            credits=Credits(20),
            currency=None,
            transaction_type="grant",
            actor=ACTOR,
            now=now,
            description="Demo credits",
            idempotency_key="demo",
        )
        return await _keys(db, state_dir / "demo-keys.json", now), await last_verification(db) is None
    finally:
        await db.close()


async def _keys(db: Database, path: Path, now: datetime) -> Keys:
    """Return the keys of the last run that still work in this database, and new ones for the rest."""
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    async with db.read() as session:
        working = {key.key_id for key in await list_keys(session) if key.status(now) == "active"}
    texts = {}
    for name, (environment, permissions, usage) in KEYS.items():
        parsed = parse_key(kept.get(name, ""))
        if parsed is not None and parsed[1] in working:
            texts[name] = kept[name]
            continue
        async with db.transaction() as tx:
            made = await create_key(
                tx, environment=environment, name=f"demo {name}", permissions=permissions, now=now, usage=usage
            )
        texts[name] = made.secret_text
    keys = Keys(**texts)
    write_private(path, json.dumps(asdict(keys)))
    return keys
