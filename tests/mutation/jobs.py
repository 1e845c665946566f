"""One run for each mutation: the tests that may notice it."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.databases import ROOT
from tests.mutation.accepted import ACCEPTED
from tests.mutation.points import Mutation, mutations
from tests.mutation.recording import Recording, digest, recording
from tests.mutation.selection import mutated_files, noticing_files
from tests.mutation.uses import Use, statements_using, uses

LEAST_TIMEOUT_S, TIMES_SLOWER = 40.0, 5.0
"""The time-out of a run: this, and so many times the recorded time of its tests."""
COLD_START_S = 5.0


@dataclass(frozen=True)
class Job:
    file: str
    mutation: Mutation
    digest: str
    """Of the mutated file."""
    tests: list[str]
    """Those that may notice, in the order of their run."""
    tests_digest: str
    is_cold: bool
    """It changes what happens at import."""
    first_s: float
    """Expected time of the first test, which notices most mutations."""
    timeout_s: float

    @property
    def change(self) -> str:
        return f"{self.mutation.before} → {self.mutation.after}"

    @property
    def reason(self) -> str | None:
        """Why it may survive."""
        return ACCEPTED.get((self.file, self.mutation.text, self.change))


def all_jobs() -> Iterator[Job]:
    """Every mutation. Record first which tests execute what, where it is not known."""
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in mutated_files()}
    found = {file: list(mutations(source)) for file, source in sources.items()}
    recorded = recording({file: {mutation.statement for mutation in found[file]} for file in found})
    plan = _Plan(recorded, uses(sources), {file: (ROOT / file).read_text("utf-8") for file in noticing_files()})
    for file, changes in found.items():
        importers = {name for name, text in plan.contents.items() if _imports(text, file)}
        for statement, group in itertools.groupby(changes, key=lambda mutation: mutation.statement):
            yield from plan.jobs(file, statement, list(group), importers)


@dataclass(frozen=True)
class _Plan:
    recorded: Recording
    used: list[Use]
    contents: dict[str, str]
    """Of the test files."""

    def jobs(self, file: str, statement: int, changes: list[Mutation], importers: set[str]) -> Iterator[Job]:
        """The mutations of one statement."""
        recorded, place = self.recorded, f"{file}:{statement}"
        is_cold = changes[0].at_import or recorded.is_at_import(place)
        affected = _affected(place, self.used) if is_cold else []
        tests = recorded.tests(file, [place, *affected], importers=importers, at_import=is_cold)
        files = sorted({test.partition("::")[0] for test in tests})
        tests_digest = digest("".join([*tests, *(self.contents[name] for name in files)]))
        first_s = recorded.expected_s(tests[:1]) + COLD_START_S * is_cold
        timeout_s = LEAST_TIMEOUT_S + TIMES_SLOWER * recorded.expected_s(tests)
        for mutation in changes:
            yield Job(file, mutation, digest(mutation.source), tests, tests_digest, is_cold, first_s, timeout_s)


def _imports(text: str, file: str) -> bool:
    package, _, module = file.removesuffix(".py").replace("/", ".").rpartition(".")
    return re.search(rf"^(from|import) {package}(\.{module}\b| import .*\b{module}\b)", text, re.MULTILINE) is not None


def _affected(place: str, used: list[Use]) -> list[str]:
    """The statements that use what a statement defines at import."""
    definition = next((use.definition for use in used if use.place == place), "")
    return list(statements_using(definition, used)) if definition else []
