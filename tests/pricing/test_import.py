"""Import of open price data: exact ids, exact decimals, and what two sources agree on."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from genai_prices import types as genai
from genai_prices.data import providers

from app.pricing import seed
from app.pricing.book import BookDocument, Hours, LlmRow, Tariff
from app.pricing.compiled import PriceBook, UnknownModel
from app.pricing.engine import Priced, price
from app.pricing.importing import command, merge, model_prices
from app.pricing.importing.genai_prices import _names, _periods
from app.pricing.importing.listing import Listing, Period, Source, merged
from tests.databases import ROOT
from tests.pricing.books import NOON, document, row, tokens

EARLIER = datetime(2026, 11, 1, tzinfo=UTC)
MUCH_EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


def tariff(input_uncached: str, output_text: str = "10", **fields: Any) -> Tariff:
    return Tariff.model_validate({"prices": {"input_uncached": input_uncached, "output_text": output_text}} | fields)


def source(name: str, *listings: Listing) -> Source:
    return Source(name, "1.2", [f"licence of {name}"], list(listings))


def listing(*periods: tuple[datetime | None, Tariff], names: Iterable[str] = ("m",)) -> Listing:
    return Listing("p", tuple(names), tuple(Period(start, tariff) for start, tariff in periods))


def merged_rows(main: Iterable[Listing], other: Iterable[Listing]) -> list[LlmRow]:
    return merge.rows_of(source("main", *main), source("other", *other), NOON)


STEP: Any = {"steps": [{"above": 200_000, "prices": {"input_uncached": "2"}}]}
STEP_NEXT_TOKEN: Any = {"steps": [{"above": 199_999, "prices": {"input_uncached": "2"}}]}
STEP_ELSEWHERE: Any = {"steps": [{"above": 128_000, "prices": {"input_uncached": "2"}}]}
DEARER_STEP: Any = {"steps": [{"above": 200_000, "prices": {"input_uncached": "3"}}]}
HALF: Any = {"modes": {"batch": {"prices": {"input_uncached": "0.5", "output_text": "5"}}}}
THIRD: Any = {"modes": {"batch": {"prices": {"input_uncached": "0.3", "output_text": "5"}}}}
UNSAID: Any = {"modes": {"batch": {"prices": {"input_uncached": "1", "output_text": "5"}}}}
NIGHT: Any = {"hours": [{"start": "16:30", "end": "00:30", "prices": {"input_uncached": "0.5"}}]}


@pytest.mark.parametrize(
    ("mine", "theirs", "differing"),
    [
        (tariff("1"), tariff("1.00"), []),
        (tariff("1"), tariff("1.01"), ["input_uncached"]),
        (tariff("1", "10"), tariff("2", "20"), ["input_uncached", "output_text"]),
        (tariff("1"), Tariff(prices={"input_uncached": Decimal(1), "cache_read": Decimal("0.1")}), []),
        (tariff("1"), tariff("1", **STEP), ["steps"]),
        (tariff("1", **STEP), tariff("1", **STEP_NEXT_TOKEN), []),
        (tariff("1", **STEP), tariff("1", **STEP_ELSEWHERE), ["above 200000"]),
        (tariff("1", **STEP), tariff("1", **DEARER_STEP), ["input_uncached above 200000"]),
        (tariff("1", **HALF), tariff("1"), []),
        (tariff("1", **HALF), tariff("1", **HALF), []),
        (tariff("1", **HALF), tariff("1", **THIRD), ["batch input_uncached"]),
        (tariff("1", **HALF), tariff("1", **UNSAID), []),
        (tariff("1", **NIGHT), tariff("1"), ["hours"]),
        (tariff("1", **NIGHT), tariff("1", **NIGHT), []),
    ],
)
def test_tariffs_differ_in_the_prices_that_both_state(mine: Tariff, theirs: Tariff, differing: list[str]) -> None:
    assert merge.differences(mine, theirs) == differing


@pytest.mark.parametrize(
    ("main", "other", "statuses"),
    [
        ([(None, tariff("1"))], [(None, tariff("1"))], ["agreed"]),
        ([(None, tariff("1"))], [(None, tariff("2"))], ["disputed"]),
        ([(None, tariff("1"))], None, ["single_source"]),
        # A price cut that one source missed: the price was right once, and is not now.
        ([(None, tariff("2"))], [(None, tariff("2")), (EARLIER, tariff("1"))], ["disputed"]),
        # The same change, noticed on different days.
        (
            [(None, tariff("2")), (EARLIER, tariff("1"))],
            [(None, tariff("2")), (datetime(2026, 10, 30, tzinfo=UTC), tariff("1"))],
            ["agreed", "agreed"],
        ),
        ([(None, tariff("3")), (EARLIER, tariff("1"))], [(None, tariff("1"))], ["disputed", "agreed"]),
        ([(None, tariff("1")), (EARLIER, tariff("2"))], [(EARLIER, tariff("2"))], ["single_source", "agreed"]),
        # A price from the future, which the other source cannot know.
        (
            [(None, tariff("1")), (datetime(2027, 1, 1, tzinfo=UTC), tariff("2"))],
            [(None, tariff("1"))],
            ["agreed", "single_source"],
        ),
        # It ended too long ago for any event.
        ([(None, tariff("3")), (MUCH_EARLIER, tariff("1"))], [(None, tariff("1"))], ["agreed"]),
        ([(None, tariff("0", "0"))], None, ["disputed"]),  # free by one source's word alone
        ([(None, tariff("0", "0"))], [(None, tariff("0", "0"))], ["agreed"]),
    ],
)
def test_a_row_is_agreed_disputed_or_single_source(main: Any, other: Any, statuses: list[str]) -> None:
    rows = merged_rows([listing(*main)], [] if other is None else [listing(*other)])
    assert [row.status for row in rows] == statuses
    assert {(row.source, row.source_version) for row in rows} == {("main", "1.2")}
    opinions = {"agreed": [False], "disputed": [True], "single_source": []}
    for found in rows if other else ():
        assert [each.tariff is not None for each in found.others] == opinions[found.status]


def test_a_call_that_costs_more_than_its_tokens_needs_an_admin() -> None:
    fee = Listing("p", ("m",), (Period(None, tariff("1"), "not imported: requests_kcount", is_complete=False),))
    assert [row.status for row in merged_rows([fee], [listing((None, tariff("1")))])] == ["disputed"]


def test_names_that_compare_alike_share_a_row() -> None:
    mine = listing((None, tariff("1")), names=("m", "m-latest", "m-1", "m-2"))
    theirs = [listing((None, tariff("1")), names=(name,)) for name in ("M", "m-1")]
    other_price = listing((None, tariff("2")), names=("m-2",))
    rows = merged_rows([mine], [*theirs, other_price, listing((None, tariff("7")), names=("only-theirs",))])
    assert [(row.id, row.model, row.aliases, row.status, row.source) for row in rows] == [
        ("p/m", "m", ["m-1"], "agreed", "main"),
        ("p/m-2", "m-2", [], "disputed", "main"),
        ("p/m-latest", "m-latest", [], "single_source", "main"),
        ("p/only-theirs", "only-theirs", [], "single_source", "other"),
    ]


def test_an_import_keeps_the_base_s_own_rows_rules_and_decisions() -> None:
    main = [listing((None, tariff("1")), names=("m", "alias")), listing((None, tariff("5")), names=("decided",))]
    other = [listing((None, tariff("6")), names=("decided",))]
    decided = next(row for row in merged_rows(main, other) if row.status == "disputed")
    base = document(
        llm=[
            row(id="mine", provider="P", model="ALIAS"),
            decided.model_copy(update={"status": "confirmed"}).model_dump(),
            row(id="p/gone", provider="p", model="gone", source="main"),
        ],
        markups=[{"id": "plus", "percent": "20"}],
        provider_aliases={"xai": "elsewhere"},
    )
    sources = [source("main", *main), source("other", *other)]

    def imported(other: list[Listing]) -> BookDocument:
        return merge.proposal(base, merged_rows(main, other), sources)

    made = imported(other)
    assert [(row.id, row.status, row.aliases) for row in made.llm] == [
        ("mine", "confirmed", []),
        ("p/decided", "confirmed", []),
        ("p/m", "single_source", []),  # the alias is the base's own row
    ]
    assert made.markups == base.markups
    assert made.provider_aliases["xai"] == "elsewhere"
    assert made.notices == ["licence of main", "licence of other"]
    assert merge.proposal(made, merged_rows(main, other), sources) == made
    changed = imported([listing((None, tariff("7")), names=("decided",))])
    assert [row.status for row in changed.llm if row.model == "decided"] == ["disputed"]


def test_an_import_makes_no_alias_of_a_provider_that_the_base_names() -> None:
    """The base's rows and rules would no longer apply."""
    base = document(
        llm=[row(provider="Gemini", model="m", prices={"input_uncached": "9", "output_text": "9"})],
        markups=[{"id": "plus", "percent": "20", "provider": "bedrock"}],
    )
    listed = Listing("google", ("m",), (Period(None, tariff("1")),))
    made = merge.proposal(base, merged_rows([listed], []), [source("main", listed)])
    assert not {"gemini", "bedrock"} & made.provider_aliases.keys()
    assert made.provider_aliases["vertex_ai"] == "google"
    costs = {}
    for provider in ("gemini", "vertex_ai"):
        priced = price(PriceBook.of(made), tokens(1, provider=provider, model="m"), at=NOON)
        assert isinstance(priced, Priced)
        costs[provider] = priced.cost_nanos
    assert costs == {"gemini": 9_000, "vertex_ai": 1_000}


def model_info(**fields: Any) -> genai.ModelInfo:
    """Return a model of genai-prices that only its own id matches."""
    given: dict[str, Any] = {"id": "m", "match": genai.ClauseEquals(equals="m")}
    return genai.ModelInfo(**given | fields)


def starts(day: date) -> genai.StartDateConstraint:
    return genai.StartDateConstraint(start_date=day)


@pytest.mark.parametrize(
    ("match", "names"),
    [
        (genai.ClauseEquals(equals="m"), ["m"]),
        (genai.ClauseEquals(equals="accounts/m"), ["accounts/m"]),  # a call cannot name the package's own id
        (genai.ClauseOr(or_=[genai.ClauseEquals(equals="M"), genai.ClauseEquals(equals="m-1")]), ["m", "m-1"]),
        (genai.ClauseStartsWith(starts_with="m"), ["m"]),  # not m-2, which it also prices
        (genai.ClauseStartsWith(starts_with="m-"), []),
        (genai.ClauseAnd(and_=[genai.ClauseEquals(equals="m"), genai.ClauseContains(contains="m")]), ["m"]),
    ],
)
def test_only_exact_ids_are_read(match: Any, names: list[str]) -> None:
    assert list(_names(model_info(match=match))) == names


def test_conditions_of_a_model_become_rows_steps_modes_and_hours() -> None:
    def at_price(price: str, **others: Any) -> genai.ModelPrice:
        return genai.ModelPrice(input_mtok=Decimal(price), **others)

    peak = genai.TimeOfDateConstraint(start_time=time(1, tzinfo=UTC), end_time=time(4, tzinfo=UTC))
    tiered = genai.TieredPrices(base=Decimal("2.50"), tiers=[genai.Tier(start=200_000, price=Decimal(5))])
    model = model_info(
        prices=[
            genai.ConditionalPrice(prices=at_price("1", requests_kcount=Decimal(5))),
            genai.ConditionalPrice(constraint=starts(date(2026, 3, 1)), prices=genai.ModelPrice(input_mtok=tiered)),
            genai.ConditionalPrice(constraint=peak, prices=at_price("9")),
        ],
        price_variants=[
            genai.PriceVariant(
                when={"processing": "batch"}, prices=at_price("0.5"), constraint=starts(date(2026, 4, 1))
            ),
            genai.PriceVariant(when={"service_tier": "priority"}, prices=at_price("4")),
            genai.PriceVariant(when={"service_tier": "flex"}, prices=at_price("0.1")),
        ],
    )
    first, second, third = _periods(model)
    assert [period.start for period in (first, second, third)] == [
        None,
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
    ]
    assert first.tariff.prices == {"input_uncached": Decimal(1)}
    assert (first.note, first.is_complete) == ("not imported: requests_kcount", False)
    assert str(second.tariff.prices["input_uncached"]) == "2.50"  # the decimals are the source's
    assert [(step.above, step.prices) for step in second.tariff.steps] == [(200_000, {"input_uncached": Decimal(5)})]
    assert [set(period.tariff.modes) for period in (first, third)] == [{"priority"}, {"batch", "priority"}]
    assert third.tariff.modes["batch"].prices == {"input_uncached": Decimal("0.5")}
    assert third.tariff.hours == [Hours(start=time(1), end=time(4), prices={"input_uncached": Decimal(9)})]


def test_a_schedule_of_model_prices_becomes_hours() -> None:
    schedules = {
        "holidays": {"cn": {"dates": ["2026-10-01"]}},
        "schedule": [
            {
                "provider": "p",
                "holidays": "cn",
                "weekdays_only": True,
                "peak_hours_utc": [["01:00", "04:00"]],
                "peak_multiplier": "2.0",
                "valid_from": "2026-08-16T16:00:00Z",
                "valid_until": "2026-09-01T00:00:00Z",
            },
            {"provider": "p", "off_peak_hours_utc": [], "off_peak_multiplier": {"n": "0.5"}, "valid_from": None},
        ],
    }
    rates = {"input": Decimal("0.15"), "cache_write": Decimal("0.1"), "cache_write_1h_multiple": 2, "source": "u"}
    tiers = {"tiers": [{"above": 5, "input": Decimal("0.30000000000000004")}]}
    modes = {"standard": [{"start": None, "rates": rates | tiers}], "batch": [{"start": None, "rates": None}]}
    periods = merged(model_prices._periods(schedules, "p", "m", modes))
    assert [(period.start, len(period.tariff.hours)) for period in periods] == [
        (None, 0),
        (datetime(2026, 8, 16, 16, tzinfo=UTC), 1),
        (datetime(2026, 9, 1, tzinfo=UTC), 0),
    ]
    hours = periods[1].tariff.hours[0]
    assert (hours.start, hours.end, hours.weekdays) == (time(1), time(4), [0, 1, 2, 3, 4])
    assert hours.except_dates == [date(2026, 10, 1)]
    assert {name: str(value) for name, value in hours.prices.items()} == {
        "input_uncached": "0.3",
        "cache_write_5m": "0.2",
        "cache_write_1h": "0.6",
    }
    assert {name: str(value) for name, value in periods[0].tariff.steps[0].prices.items()} == {
        "input_uncached": "0.3",
        "cache_write_1h": "0.6",
    }


@pytest.fixture(scope="module")
def imported() -> command.Proposal:
    return command.from_packages(None, NOON)


def test_the_packages_agree_on_most_models_that_both_list(imported: command.Proposal) -> None:
    counts = imported.statuses
    assert counts["agreed"] > 200
    assert 0 < counts["disputed"] < counts["agreed"] / 2
    assert counts["confirmed"] == 0
    versions = {name: metadata.version(name) for name in ("genai-prices", "model-prices")}
    assert {row.source: row.source_version for row in imported.document.llm} == versions
    assert len(imported.skipped) > 10


def test_no_model_is_priced_by_the_prefix_of_its_id(imported: command.Proposal) -> None:
    """Each prefix that genai-prices matches, with an ending that no model has."""
    book = PriceBook.of(imported.document)
    refused = 0
    for provider in providers:
        clauses = [clause for model in provider.models for clause in (model.match, *getattr(model.match, "or_", ()))]
        for clause in clauses:
            if isinstance(clause, genai.ClauseStartsWith):
                name = f"{clause.starts_with}-2099"
                assert provider.find_model(name) is not None
                found = price(book, tokens(1, provider=provider.id, model=name), at=NOON)
                assert found == UnknownModel(provider.id, name, "no_row")
                refused += 1
    assert refused > 50


def test_an_agreed_row_prices_as_the_package_does(imported: command.Proposal) -> None:
    """A million tokens each way, for each current row whose price needs no condition."""
    book = PriceBook.of(imported.document)
    listed = {provider.id: provider for provider in providers}
    million = genai.Usage(input_tokens=10**6, output_tokens=10**6)
    compared = 0
    for found in imported.document.llm:
        if found.status == "agreed" and not found.steps and not found.hours and "output_text" in found.prices:
            model = listed[found.provider].find_model(found.model)
            assert model is not None
            expected = model.get_prices(NOON).calc_price(million)["total_price"]
            ours = price(book, tokens(10**6, 10**6, provider=found.provider, model=found.model), at=NOON)
            if isinstance(ours, UnknownModel):
                assert ours.reason == "disputed"  # the model's current row
                continue
            assert isinstance(ours, Priced)
            assert Decimal(ours.cost_nanos).scaleb(-9) == expected, found.id
            compared += 1
    assert compared > 150


def test_the_shipped_data_is_the_locked_packages_and_has_their_licences() -> None:
    shipped = seed.read()
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("genai-prices", "model-prices"):
        pinned = re.search(rf"^{name}==(\S+)", lock, flags=re.MULTILINE)
        assert pinned is not None
        assert {row.source_version for row in shipped.llm if row.source == name} == {pinned[1]}, (
            "run `ciris-billing prices import --write app/pricing/data/open-prices.json`"
        )
    notices = "\n".join(shipped.notices)
    for owner in ("Pydantic Services Inc.", "wakamex", "models.dev"):
        assert owner in notices
    assert notices.count("Permission is hereby granted, free of charge") == 3
    assert shipped.unknown_models is None


def test_the_shipped_data_is_a_proposal_like_any_other(tmp_path: Path, imported: command.Proposal) -> None:
    path = tmp_path / "prices.json"
    seed.write(imported.document, path)
    assert BookDocument.model_validate_json(path.read_bytes()) == imported.document
    assert seed.read() == command.from_seed(None).document
