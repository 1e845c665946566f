"""Plain English: docs/style.md holds for code, documentation, pages, OpenAPI and comments of configuration."""

import pytest

from tests.databases import ROOT
from tests.plain_english import Passage, count, findings, passages, tracked

PER_1000_WORDS = 1.0


def test_prose_stays_below_one_construction_in_a_thousand_words() -> None:
    words, found = count(tracked())
    assert words > 100_000
    shown = "\n".join(f"{finding.file}:{finding.line}: {finding.words!r} in: {finding.sentence}" for finding in found)
    assert 1000 * len(found) / words < PER_1000_WORDS, shown


@pytest.mark.parametrize("place", ["admin-ui", "openapi.json", "README.md"])
def test_pages_and_descriptions_have_none(place: str) -> None:
    words, found = count(tracked(place))
    assert words > 1_000
    assert found == []


@pytest.mark.parametrize("name", ["Caddyfile", "Makefile", "docker-compose.yml", "docker/pgbouncer/pgbouncer.ini"])
def test_comments_of_configuration_are_prose(name: str) -> None:
    assert ROOT / name in tracked()
    assert sum(len(passage.text.split()) for passage in passages(ROOT / name)) > 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Taken by who is ready to wait.", ["by who"]),
        ("What is left expires.", ["What"]),
        ("Nobody is told.", ["Nobody", "told"]),
        ("It goes on by itself, whoever asks.", ["goes on", "by itself", "whoever"]),
        ("Who pays? What happens next?", []),
        ("Return the refunds that Stripe knows; raise `told` for none.", []),
    ],
)
def test_constructions_are_found_in_sentences(text: str, expected: list[str]) -> None:
    assert [finding.words for finding in findings(Passage("a.md", 1, text))] == expected
