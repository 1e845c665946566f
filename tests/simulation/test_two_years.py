"""One customer of each life through two years: the short form of `make simulate`."""

from collections import Counter

import pytest

from tests.databases import Urls
from tests.simulation.books import differences
from tests.simulation.lives import LIVES, MONTHS
from tests.simulation.walk import Share, walk


@pytest.mark.timeout(300)
async def test_two_years_end_in_the_same_books_in_any_order(database: Urls) -> None:
    result = await walk(Share(0, customers=len(LIVES), webhooks=1, seed=1, limit_s=280))
    assert result.problems == []
    assert result.months == MONTHS
    counts = result.counts
    assert min(counts.lost, counts.late, counts.repeated, counts.webhooks, result.refreshes) > 0


def test_what_only_one_of_both_books_has_is_reported() -> None:
    one, other = {"grants": Counter([("a", 1), ("b", 2)])}, {"grants": Counter([("a", 1), ("b", 3)])}
    assert differences(one, one) == []
    assert differences(one, other) == ["grants: ('b', 2) only when shaken", "grants: ('b', 3) only in order"]
