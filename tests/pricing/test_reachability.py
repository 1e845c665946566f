"""Rows, rules and aliases of a price book that no usage reaches."""

from typing import Any

import pytest

from app.pricing.engine import Priced, price
from app.pricing.reachability import unreachable
from tests.pricing.books import NOON, SONNET, book, document, row, tokens

ALIASES = {"Bedrock": "aws", "aws": "AWS"}
ALIAS, OTHER_ALIAS = "claude-sonnet-20261001", "gpt-2026"


def rule(**attributes: str) -> dict[str, str]:
    return {"id": "plus", "percent": "20", **attributes}


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({}, []),
        ({"llm": [row(provider="aws")], "markups": [rule(provider="AWS")]}, []),
        (
            {"llm": [row(provider="bedrock")]},
            ["llm: row row names the provider bedrock, which is an alias of aws"],
        ),
        (
            {"markups": [rule(provider="BEDROCK")]},
            ["markups: rule plus names the provider BEDROCK, which is an alias of aws"],
        ),
        (
            {"provider_aliases": {**ALIASES, "b": "bedrock"}},
            ["provider_aliases: b is an alias of bedrock, which is an alias of aws"],
        ),
        ({"markups": [rule(model="Claude-Sonnet")]}, []),
        ({"markups": [rule(model="of-no-row")]}, []),  # it may have the stated price of unknown models
        (
            {"markups": [rule(model=ALIAS)]},
            [f"markups: rule plus names the model {ALIAS}, which is an alias of claude-sonnet"],
        ),
        ({"markups": [rule(model=ALIAS, provider="openai")]}, []),
        ({"llm": [SONNET, row(model=ALIAS)], "markups": [rule(model=ALIAS)]}, []),
    ],
)
def test_what_names_an_alias_is_unreachable(fields: dict[str, Any], problems: list[str]) -> None:
    assert unreachable(document(**{"provider_aliases": ALIASES, **fields})) == problems


@pytest.mark.parametrize("attributes", [{"provider": "bedrock"}, {"model": OTHER_ALIAS}])
def test_the_engine_never_applies_such_a_rule(attributes: dict[str, str]) -> None:
    fields: dict[str, Any] = {"llm": [row(provider="aws", aliases=[OTHER_ALIAS])], "provider_aliases": ALIASES}
    fields["markups"] = [rule(**attributes)]
    assert unreachable(document(**fields))
    priced = price(book(**fields), tokens(1, provider="bedrock", model=OTHER_ALIAS), at=NOON)
    assert isinstance(priced, Priced)
    assert (priced.cost_nanos, priced.markup_rule_id) == (1_000, None)
