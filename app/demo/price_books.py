"""The demo's price books: Z-Billing's list, a later price change, and a proposal from open price data."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app.db import Database
from app.pricing import history
from app.pricing.book import ANY_PROVIDER, BookDocument, MarkupRule
from app.pricing.editing import Author, activate, find_version, propose
from app.pricing.importing import command as importing

CREDITS_PER_UNIT = 100
"""Z-Billing's list is in credits of one cent."""
PRICES: dict[str, tuple[int, int]] = {
    "claude-3-5-sonnet": (300, 1_500),
    "claude-3-haiku": (25, 125),
    "claude-3-opus": (1_500, 7_500),
    "gpt-4-turbo": (1_000, 3_000),
    "gpt-4o": (250, 1_000),
    "gpt-4o-mini": (15, 60),
    "gemini-1.5-pro": (125, 500),
    "gemini-1.5-flash": (8, 30),
}
"""Credits per million tokens, in and out."""
UNKNOWN = (100, 300)
ALIASES = {"claude-3-5-sonnet": ["claude-3-5-sonnet-20241022"]}
CPU_HOUR, MEMORY_GB_HOUR, THOUSAND_CALLS = 6, 2, 1
LATER_MARKUP = MarkupRule(id="llm", meter="llm_tokens", percent=Decimal(20))
IN_FORCE_FOR, CHANGED = timedelta(days=60), timedelta(days=10)


def z_billing_list(*markups: MarkupRule) -> BookDocument:
    """Return Z-Billing's price list. Its rows apply to every provider, because its callers often name none.

    Z-Billing rounded each side down, and charged at least one credit. Here amounts are exact.
    """
    return BookDocument.model_validate(
        {
            "name": "Z-Billing",
            "currency": "USD",
            "unknown_models": {"prices": _prices(UNKNOWN)},
            "llm": [
                {
                    "id": model,
                    "provider": ANY_PROVIDER,
                    "model": model,
                    "aliases": ALIASES.get(model, []),
                    "prices": _prices(credits),
                    "source": "Z-Billing",
                }
                for model, credits in PRICES.items()
            ],
            "compute": {
                "id": "compute",
                "cpu_hour": _dollars(CPU_HOUR),
                "memory_gb_hour": _dollars(MEMORY_GB_HOUR),
                "source": "Z-Billing",
            },
            "api_calls": [{"id": "api_calls", "price": _dollars(THOUSAND_CALLS), "source": "Z-Billing"}],
            "markups": [rule.model_dump() for rule in markups],
        }
    )


def _dollars(credits: int) -> Decimal:
    return Decimal(credits) / CREDITS_PER_UNIT


def _prices(credits: tuple[int, int]) -> dict[str, Any]:
    return {"input_uncached": _dollars(credits[0]), "output_text": _dollars(credits[1])}


async def prepare_price_books(db: Database, now: datetime) -> None:
    """Put the list in force, change its prices ten days ago, and propose the shipped data. Idempotent."""
    async with db.transaction() as tx:
        if await history.list_versions(tx, now, limit=1):
            return
        first = Author("demo", None, "Z-Billing's list", now - IN_FORCE_FOR)
        version = await propose(tx, z_billing_list(), first)
        await activate(tx, version, first.now, first)
        later = Author("demo", None, "20 % on language models", now - CHANGED)
        changed = await propose(tx, z_billing_list(LATER_MARKUP), later, based_on=version)
        await activate(tx, changed, later.now, later)
        base = await find_version(tx, changed)
        await propose(
            tx,
            importing.from_seed(base).document,
            Author("demo", None, "Import of the shipped price data", now),
            based_on=changed,
        )
