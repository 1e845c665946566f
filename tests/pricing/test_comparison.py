"""The difference between two price books."""

from app.pricing.comparison import Change, compare
from tests.pricing.books import SONNET, document, row


def test_a_difference_lists_each_price_once() -> None:
    before = document(
        llm=[SONNET, row(), row(id="gone", model="gone")], compute={"id": "c", "cpu_hour": "1", "memory_gb_hour": "2"}
    )
    cheaper = SONNET | {"prices": {"input_uncached": "2", "cache_read": "0.3", "output_text": "15"}, "note": "a sale"}
    after = document(
        llm=[cheaper, row(aliases=["a", "b"], source="elsewhere"), row(id="new", model="new")],
        compute={"id": "c", "cpu_hour": "1", "memory_gb_hour": "3"},
        rounding="up_to_minor",
        markups=[{"id": "plus", "percent": "20", "plan": "pro"}],
    )
    assert compare(before, after) == [
        Change("changed", "book", "", "rounding", "exact", "up_to_minor"),
        Change("changed", "book", "", "compute.memory_gb_hour", "2", "3"),
        Change("changed", "llm", "sonnet", "prices.input_uncached", "3", "2"),
        Change("changed", "llm", "row", "aliases", None, "a, b"),
        Change("removed", "llm", "gone", "", "input_uncached 1, output_text 1, status confirmed", None),
        Change("added", "llm", "new", "", None, "input_uncached 1, output_text 1, status confirmed"),
        Change("added", "markups", "plus", "", None, "plan pro, percent 20"),
    ]
    assert compare(after, after) == []


def test_the_first_book_is_all_new() -> None:
    changes = compare(None, document())
    assert {change.kind for change in changes} == {"added"}
    assert [change.row for change in changes] == ["", "sonnet"]
