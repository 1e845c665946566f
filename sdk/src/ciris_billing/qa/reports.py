"""Reports of a run: a live table, and JSON and JUnit files at the end."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

from ciris_billing.qa.steps import Outcome, Result, Step

SIGNS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "skipped": "-"}
COLOURS: dict[Outcome, str] = {"passed": "\x1b[32m", "failed": "\x1b[31m", "skipped": "\x1b[33m"}
NAME_WIDTH = 44


class Table:
    """One line per step. On a terminal, the step is shown when it starts."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def begun(self, step: Step) -> None:
        if self._terminal:
            print(f"… {step.suite:8} {step.name}", end="\r", file=self._out, flush=True)

    def ended(self, result: Result) -> None:
        sign = SIGNS[result.outcome]
        if self._terminal:
            sign = f"\x1b[2K{COLOURS[result.outcome]}{sign}\x1b[0m"
        line = f"{sign} {result.suite:8} {result.name:{NAME_WIDTH}} {result.duration_ms:8.1f} ms  {result.note}"
        print(line.rstrip(), file=self._out, flush=True)

    def summary(self, results: Sequence[Result]) -> None:
        count = Counter(result.outcome for result in results)
        print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped", file=self._out)


def write_json(path: Path, results: Sequence[Result]) -> None:
    count = Counter(result.outcome for result in results)
    report: dict[str, object] = {outcome: count[outcome] for outcome in SIGNS}
    report["steps"] = [asdict(result) for result in results]
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def write_junit(path: Path, results: Sequence[Result]) -> None:
    root = ElementTree.Element("testsuites")
    for suite in dict.fromkeys(result.suite for result in results):
        own = [result for result in results if result.suite == suite]
        count = Counter(result.outcome for result in own)
        element = ElementTree.SubElement(
            root,
            "testsuite",
            name=suite,
            tests=str(len(own)),
            failures=str(count["failed"]),
            skipped=str(count["skipped"]),
            time=f"{sum(result.duration_ms for result in own) / 1000:.4f}",
        )
        for result in own:
            case = ElementTree.SubElement(
                element, "testcase", classname=suite, name=result.name, time=f"{result.duration_ms / 1000:.4f}"
            )
            if result.outcome != "passed":
                tag = "failure" if result.outcome == "failed" else "skipped"
                ElementTree.SubElement(case, tag, message=_printable(result.note))
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """Replace control characters, which XML does not allow."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
