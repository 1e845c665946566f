"""One run for each mutation: the tests that may notice it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tests.databases import ROOT
from tests.mutation.accepted import ACCEPTED
from tests.mutation.points import Mutation, mutations
from tests.mutation.recording import Recording, digest, recording
from tests.mutation.selection import mutated_files, noticing_files
from tests.mutation.uses import Use, statements_using, uses

LEAST_TIMEOUT_S, TIMES_SLOWER = 40.0, 5.0
"""How long a run may take: this, and so many times what its tests took when they were recorded."""


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
    timeout_s: float

    @property
    def change(self) -> str:
        return f"{self.mutation.before} → {self.mutation.after}"

    @property
    def reason(self) -> str | None:
        """Why it may survive."""
        return ACCEPTED.get((self.file, self.mutation.function, self.change))


def all_jobs() -> Iterator[Job]:
    """Every mutation. Record first which tests execute what, where it is not known."""
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in mutated_files()}
    found = {file: list(mutations(source)) for file, source in sources.items()}
    recorded = recording({file: {mutation.statement for mutation in found[file]} for file in found})
    contents = {file: (ROOT / file).read_text(encoding="utf-8") for file in noticing_files()}
    used = uses(sources)
    for file, changes in found.items():
        for statement, group in itertools.groupby(changes, key=lambda mutation: mutation.statement):
            yield from _jobs_of(file, statement, list(group), recorded, used, contents)


def _jobs_of(
    file: str,
    statement: int,
    changes: list[Mutation],
    recorded: Recording,
    used: list[Use],
    contents: dict[str, str],
) -> Iterator[Job]:
    """The mutations of one statement."""
    place = f"{file}:{statement}"
    is_cold = changes[0].at_import or recorded.is_at_import(place)
    tests = recorded.tests(file, [place, *(_affected(place, used) if is_cold else ())])
    if is_cold and not tests:
        tests = recorded.tests(file, [use.place for use in used if use.place.startswith(f"{file}:")])
    files = sorted({test.partition("::")[0] for test in tests})
    tests_digest = digest("".join([*tests, *(contents[name] for name in files)]))
    timeout_s = LEAST_TIMEOUT_S + TIMES_SLOWER * recorded.expected_s(tests)
    for mutation in changes:
        yield Job(file, mutation, digest(mutation.source), tests, tests_digest, is_cold, timeout_s)


def _affected(place: str, used: list[Use]) -> list[str]:
    """The statements that use what a statement defines at import."""
    definition = next((use.definition for use in used if use.place == place), "")
    return list(statements_using(definition, used)) if definition else []
