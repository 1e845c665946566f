"""docs/mutation.md: the score of each package, and every survivor with its reason."""

from collections import Counter
from collections.abc import Mapping
from datetime import date

from tests.mutation.jobs import Job
from tests.mutation.recording import MAX_COST_S

HEAD = """# Mutation tests

`make mutants` changes the code, one decision at a time, and demands that a test fails. First it removes each lock,
constraint and trigger. Then it changes each decision of billing, tools, payments and authentication: a comparison, a
condition, a sum, a number, a raise. `python -m tests.mutation --write` writes this page.
"""
METHOD = f"""A mutation is noticed when a test fails or does not end. Each mutation runs the tests that execute the
changed statement, the closest and cheapest first, up to {MAX_COST_S:.0f} seconds of tests. A mutation of a statement
that no test executes survives. Results are kept by the content of the changed file: a changed file is tried again.
A run begins with the mutations whose tests are cheapest, so the score of an unfinished run is too good; that of
a random sample is fair.
"""


def report(jobs: list[Job], of: int, outcomes: Mapping[str, str], today: date) -> str:
    """Return the page. `jobs`: all mutations, or a random sample of `of` mutations."""
    done = [job for job in jobs if job.digest in outcomes]
    survivors = [job for job in done if outcomes[job.digest] in ("survived", "stale")]
    count, alive = Counter(map(_package, done)), Counter(map(_package, survivors))
    explained = Counter(_package(job) for job in survivors if job.reason)
    rows = [_row(f"`{package}`", count[package], alive[package], explained[package]) for package in count]
    state = f"{len(done)} of {of} mutations were tried" if len(done) < of else "Every mutation was tried"
    if len(done) == len(jobs) < of:
        state += ", a random sample"
    table = [f"| {' | '.join(_cells(job, outcomes))} |" for job in survivors]
    return "\n".join(
        [
            HEAD,
            f"{METHOD}\nState of {today.isoformat()}: {state}.\n",
            "| package | mutations | noticed | explained | unexplained | score |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            _row("all", len(done), len(survivors), explained.total()),
            "\nThe score is the noticed share of the tried mutations, those with an explanation included.\n",
            "## Survivors\n",
            "| file | line | change | why no test fails |",
            "|---|---|---|---|",
            *table,
            "",
        ]
    )


def _row(name: str, count: int, alive: int, explained: int) -> str:
    score = f"{100 * (count - alive) / count:.1f} %" if count else ""
    return f"| {name} | {count} | {count - alive} | {explained} | {alive - explained} | {score} |"


def _package(job: Job) -> str:
    return "/".join(job.file.split("/")[:2])


def _unexplained(job: Job, outcomes: Mapping[str, str]) -> str:
    if outcomes[job.digest] == "stale":
        return "not tried again since its tests changed"
    return "not explained yet" if job.tests else "not explained yet; no test executes it"


def _cells(job: Job, outcomes: Mapping[str, str]) -> list[str]:
    code = [text.replace("|", "\\|").replace("`", "'") for text in (job.file, job.mutation.text, job.change)]
    return [*(f"`{text}`" for text in code), job.reason or _unexplained(job, outcomes)]
