"""Small price books for tests."""

from datetime import UTC, datetime
from typing import Any

from app.pricing.book import BookDocument
from app.pricing.compiled import PriceBook
from app.pricing.usage import LlmTokens, Mode

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
SONNET = {
    "id": "sonnet",
    "provider": "anthropic",
    "model": "claude-sonnet",
    "aliases": ["claude-sonnet-20261001"],
    "prices": {"input_uncached": "3", "cache_read": "0.3", "output_text": "15"},
    "steps": [{"above": 200_000, "prices": {"input_uncached": "6", "output_text": "22.5"}}],
    "modes": {"batch": {"prices": {"input_uncached": "1.5", "output_text": "7.5"}}},
}


def document(**fields: Any) -> BookDocument:
    """Return the document of a book in USD. Unless given, it has one model."""
    return BookDocument.model_validate({"name": "test", "currency": "USD", "llm": [SONNET]} | fields)


def book(**fields: Any) -> PriceBook:
    return PriceBook.of(document(**fields), version=7)


def row(**fields: Any) -> dict[str, Any]:
    """Return a model's row: one dollar a million tokens each way."""
    return {
        "id": "row",
        "provider": "openai",
        "model": "gpt",
        "prices": {"input_uncached": "1", "output_text": "1"},
    } | fields


def tokens(
    input_uncached: int = 0,
    output_text: int = 0,
    *,
    provider: str = "anthropic",
    model: str = "claude-sonnet",
    mode: Mode = "standard",
    **others: int,
) -> LlmTokens:
    counts: Any = {"input_uncached": input_uncached, "output_text": output_text} | others
    return LlmTokens(provider, model, counts, mode)
