"""The burn-rate brake as it is configured."""

from functools import lru_cache

from app.configuration.sections import BurnRate
from app.ledger.brake import Brake
from app.ledger.money import nanos_of_text


def brake_of(config: BurnRate) -> Brake | None:
    """Return the configured brake. None: it is off."""
    if config.credits_per_minute is None and not config.money_per_minute:
        return None
    entries = tuple((entry.currency, entry.amount) for entry in config.money_per_minute)
    return _brake(config.credits_per_minute, entries)


@lru_cache(maxsize=8)
def _brake(credits: int | None, entries: tuple[tuple[str, str], ...]) -> Brake:
    return Brake(credits, {currency: nanos_of_text(amount) for currency, amount in entries})
