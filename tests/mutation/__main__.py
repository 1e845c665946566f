"""`make mutants`, second part: change each decision of billing, tools, payments and auth, and demand a failing test.

    python -m tests.mutation [--write] [--share 0.1] [--jobs 2] [WORD …]

A word limits the run to files that contain it. Results are kept in `var/mutation.jsonl` by the content of the mutated
file, so an interrupted run continues where it stopped. `--write` writes docs/mutation.md. Exit status 1:
a mutation survived that tests/mutation/accepted.py does not explain.
"""

import argparse
import contextlib
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.demo.postgres import ephemeral_cluster
from tests.databases import ROOT, prepare
from tests.mutants import NO_SOURCE
from tests.mutation.accepted import ACCEPTED
from tests.mutation.points import Mutation, mutations
from tests.mutation.selection import mutated_files, selected_tests

RESULTS = ROOT / "var" / "mutation.jsonl"
REPORT = ROOT / "docs" / "mutation.md"
TIMEOUT_S = 300.0
UNMUTATED_TIMEOUT_S = 1800.0
"""For all tests together."""


@dataclass(frozen=True)
class Job:
    file: str
    mutation: Mutation
    digest: str
    """Of the mutated file."""
    tests: str
    """Digest of the tests that must notice."""

    @property
    def change(self) -> str:
        return f"{self.mutation.before} → {self.mutation.after}"

    @property
    def reason(self) -> str | None:
        """Why it may survive."""
        return ACCEPTED.get((self.file, self.mutation.function, self.change))


def all_jobs() -> list[Job]:
    jobs = []
    for file in mutated_files():
        tests = "".join(_content(ROOT / test) for test in selected_tests(file))
        source = (ROOT / file).read_text(encoding="utf-8")
        jobs += [Job(file, mutation, _digest(mutation.source), _digest(tests)) for mutation in mutations(source)]
    return jobs


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _content(path: Path) -> str:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def known_outcomes(jobs: list[Job]) -> dict[str, str]:
    """Return the results of earlier runs. A survivor is tried again when the tests have changed."""
    if not RESULTS.exists():
        return {}
    tests = {job.digest: job.tests for job in jobs}
    rows = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    return {
        row["digest"]: row["outcome"]
        for row in rows
        if row["outcome"] != "survived" or tests.get(row["digest"]) == row["tests"]
    }


@contextlib.contextmanager
def worker(log: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs mutants in a copy of the project. `log` gets the output of the latest run."""
    with tempfile.TemporaryDirectory(prefix="ciris-billing-mutation-") as folder:
        tree = Path(folder) / "project"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NO_SOURCE))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.worker"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "MUTATION_LOG": str(log)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def run_in(
    process: "subprocess.Popen[str]", file: str, source: str, tests: tuple[str, ...], timeout_s: float = TIMEOUT_S
) -> str:
    """The outcome of `tests` with `source` in the place of `file`."""
    assert process.stdin is not None
    assert process.stdout is not None
    request = {"file": file, "source": source, "tests": list(tests), "timeout_s": timeout_s}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def require_passing_tests(files: set[str]) -> None:
    """Run all tests of `files` once without a mutation: nothing could be learned from a test that fails anyway."""
    tests = tuple(sorted({test for file in files for test in selected_tests(file)}))
    file = min(files)
    with worker(RESULTS.with_suffix(".log")) as process:
        if run_in(process, file, (ROOT / file).read_text(encoding="utf-8"), tests, UNMUTATED_TIMEOUT_S) != "survived":
            raise SystemExit("A test fails without a mutation, see var/mutation.log")


def work(jobs: "queue.SimpleQueue[Job]", outcomes: dict[str, str], file: IO[str], lock: threading.Lock) -> None:
    with worker(Path(os.devnull)) as process:
        while True:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                return
            outcome = run_in(process, job.file, job.mutation.source, selected_tests(job.file))
            with lock:
                outcomes[job.digest] = outcome
                file.write(json.dumps({"digest": job.digest, "tests": job.tests, "outcome": outcome}) + "\n")
                file.flush()
                mark = "accepted" if outcome == "survived" and job.reason else outcome
                print(f"{mark:<9} {job.file}:{job.mutation.line} {job.mutation.function}: {job.change}", flush=True)


def report(jobs: list[Job], outcomes: dict[str, str]) -> str:
    """The page of results: the score of each package, and every survivor with its reason."""
    done = [job for job in jobs if job.digest in outcomes]
    survivors = [job for job in done if outcomes[job.digest] == "survived"]
    count, alive = Counter(_package(job) for job in done), Counter(_package(job) for job in survivors)
    rows = [
        f"| `{p}` | {count[p]} | {count[p] - alive[p]} | {_percent(count[p] - alive[p], count[p])} |" for p in count
    ]
    total = f"| all | {len(done)} | {len(done) - len(survivors)} | {_percent(len(done) - len(survivors), len(done))} |"
    tried = (
        "Every mutation was tried." if len(done) == len(jobs) else f"{len(done)} of {len(jobs)} mutations were tried."
    )
    table = [
        f"| `{job.file}` | `{job.mutation.function}` | `{_cell(job.change)}` | {job.reason or 'not explained yet'} |"
        for job in survivors
    ]
    return "\n".join(
        [
            "# Mutation tests",
            "",
            "`make mutants` changes the code, one decision at a time, and demands that a test fails. First it removes",
            "each lock, constraint and trigger. Then it changes each decision of billing, tools, payments and",
            "authentication: a comparison, a condition, a sum, a number, a raise. `python -m tests.mutation --write`",
            "writes this page.",
            "",
            f"{tried} A mutation is noticed when a test fails or does not end.",
            "",
            "| package | mutations | noticed | score |",
            "|---|---:|---:|---:|",
            *rows,
            total,
            "",
            "## Survivors",
            "",
            "| file | function | change | why no test fails |",
            "|---|---|---|---|",
            *table,
            "",
        ]
    )


def _package(job: Job) -> str:
    return "/".join(job.file.split("/")[:2])


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    jobs = [job for job in all_jobs() if not options.words or any(word in job.file for word in options.words)]
    chosen = random.Random(0).sample(jobs, round(len(jobs) * options.share))
    outcomes = known_outcomes(jobs)
    untried = [job for job in chosen if job.digest not in outcomes]
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in untried:
        waiting.put(job)
    RESULTS.parent.mkdir(exist_ok=True)
    with ephemeral_cluster() as cluster, RESULTS.open("a", encoding="utf-8") as file:
        prepare(cluster)
        if untried:
            require_passing_tests({job.file for job in untried})
        arguments = (waiting, outcomes, file, threading.Lock())
        threads = [threading.Thread(target=work, args=arguments) for _ in range(options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if options.write:
        REPORT.write_text(report(jobs, outcomes), encoding="utf-8")
    survived = [job for job in chosen if outcomes.get(job.digest) == "survived"]
    unexplained = [job for job in survived if job.reason is None]
    broken = [job for job in chosen if outcomes.get(job.digest) not in ("noticed", "survived", "timeout")]
    print(f"{len(chosen)} mutations: {len(survived)} survived, {len(unexplained)} unexplained, {len(broken)} not tried")
    return 1 if unexplained or broken else 0


if __name__ == "__main__":
    sys.exit(main())
