"""The demo's price books: Z-Billing's figures, and the change of its prices."""

from datetime import timedelta
from decimal import Decimal

import pytest

from app.clock import utc_now
from app.db import Database
from app.demo.price_books import LATER_MARKUP, prepare_price_books, z_billing_list
from app.pricing import history
from app.pricing.compiled import PriceBook
from app.pricing.engine import Priced, price
from app.pricing.service import PriceBooks
from app.pricing.usage import ApiCalls, Compute, LlmTokens, Usage
from tests.conftest import settings_for
from tests.databases import Urls

MILLION = 1_000_000
CREDIT_NANOS = 10_000_000
NOW = utc_now()


def tokens(model: str, tokens_in: int, tokens_out: int, provider: str = "") -> LlmTokens:
    return LlmTokens(provider, model, {"input_uncached": tokens_in, "output_text": tokens_out})


@pytest.mark.parametrize(
    ("usage", "credits"),
    [
        (tokens("claude-3-5-sonnet", MILLION, MILLION, "anthropic"), 1_800),
        (tokens("claude-3-5-sonnet-20241022", MILLION, 0), 300),
        (tokens("claude-3-haiku", MILLION, MILLION), 150),
        (tokens("claude-3-opus", 0, MILLION), 7_500),
        (tokens("gpt-4-turbo", MILLION, MILLION, "openai"), 4_000),
        (tokens("gpt-4o", MILLION, MILLION, "unknown"), 1_250),
        (tokens("gpt-4o-mini", MILLION, MILLION), 75),
        (tokens("gemini-1.5-pro", MILLION, MILLION), 625),
        (tokens("gemini-1.5-flash", MILLION, MILLION), 38),
        (tokens("unknown", MILLION, MILLION), 400),
        (tokens("gpt-4o-2099-01-01", MILLION, 0), 100),  # a dated name is unknown
        (tokens("gpt-4o", 1_000, 0), Decimal("0.25")),  # exact, where Z-Billing charged a whole credit
        (Compute(Decimal(1), Decimal(1)), 8),
        (ApiCalls("/v1/search", 1_000), 1),
        (ApiCalls("/v1/search", 1), Decimal("0.001")),
    ],
)
def test_the_list_has_z_billing_s_prices(usage: Usage, credits: Decimal | int) -> None:
    found = price(PriceBook.of(z_billing_list()), usage, at=NOW)
    later = price(PriceBook.of(z_billing_list(LATER_MARKUP)), usage, at=NOW)
    assert isinstance(found, Priced)
    assert isinstance(later, Priced)
    assert found.cost_nanos == credits * CREDIT_NANOS
    factor = Decimal("1.2") if isinstance(usage, LlmTokens) else 1
    assert later.cost_nanos == credits * CREDIT_NANOS * factor


async def test_the_demo_has_a_price_change_and_a_proposal(own_database: Urls) -> None:
    db = Database(settings_for(own_database).database_url, pool_size=5)
    await prepare_price_books(db, NOW)
    await prepare_price_books(db, NOW)  # the demo starts again
    async with db.read() as session:
        versions = await history.list_versions(session, NOW, limit=10)
    assert [(row["version"], row["state"]) for row in versions] == [(3, "proposed"), (2, "in_force"), (1, "replaced")]
    books = PriceBooks(db)
    month_ago = await books.current("USD", NOW - timedelta(days=30))
    today = await books.current("USD", NOW)
    assert month_ago is not None
    assert today is not None
    assert (month_ago.version, today.version) == (1, 2)
    await db.close()
