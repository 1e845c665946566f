"""The shop of the payments' tests, whose money is what the metrics are about; and a reading of `/metrics`."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.payments.conftest import Shop
from tests.payments.conftest import shop as shop

Reading = Callable[..., float]


def read(text: str) -> Reading:
    """`value("billing_charges_total", outcome="charged")`: the sum of the samples that have these labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    return value


Scrape = Callable[[], Awaitable[Reading]]


@pytest.fixture
def scrape(shop: Shop) -> Scrape:
    """Read `/metrics`. Counters are this test process's: compare two readings."""

    async def now() -> Reading:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://billing") as client:
            return read((await client.get("/metrics")).text)

    return now
