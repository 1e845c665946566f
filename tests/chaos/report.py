"""Writes measured results as tables into the docs, such as docs/reliability.md."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.scenarios import Scenario
from tests.databases import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- {} -->\n", "<!-- /{} -->"
HEAD = (
    "| fault | lasted | answered | 503 | cut off | slowest | whole again after | "
    "charges and events: acknowledged, once each | unacknowledged: of these booked, once | payments, each booked once "
    "| result |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass
class Result:
    """One fault, and what came of it."""

    scenario: Scenario
    not_tried: str | None = None
    lasted_s: float = 0
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0
    recovered_s: float = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    found_all_the_same: int = 0
    bought: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        if self.not_tried is not None:
            return f"| {self.scenario.what} | not tried: {self.not_tried} |" + " |" * 9
        answered = sum(n for status, n in self.statuses.items() if status not in (0, 503))
        cells = [
            self.scenario.what,
            f"{self.lasted_s:.1f} s",
            f"{answered:,}",
            f"{self.statuses[503]:,}",
            f"{self.statuses[0]:,}",
            f"{self.slowest_s:.2f} s",
            f"{self.recovered_s:.1f} s",
            f"{self.acknowledged:,}",
            f"{self.unacknowledged:,}: {self.found_all_the_same:,}",
            f"{self.bought:,}",
            "**FAILED**" if self.problems else "held",
        ]
        return "| " + " | ".join(cells) + " |"


def table(results: list[Result]) -> str:
    return HEAD + "".join(f"{result.row}\n" for result in results)


def section(name: str) -> str:
    """Return the page's text between the marks of that name."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN.format(name))[1].split(END.format(name))[0]


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Write `text` between the marks of that name; the text around them stays."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN.format(name))
    _, after = rest.split(END.format(name))
    page.write_text(f"{before}{BEGIN.format(name)}{text}{END.format(name)}{after}", encoding="utf-8")
