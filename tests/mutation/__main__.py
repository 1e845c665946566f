"""`make mutants`, second part: change each decision of billing, tools, payments and auth, and demand a failing test.

    python -m tests.mutation [--write] [--share 0.1] [--jobs 2] [WORD …]

A word limits the run to files that contain it. Each mutation runs the tests that execute the mutated statement.
Results are kept in `var/mutation.jsonl` by the content of the mutated file, so an interrupted run continues where it
stopped. `--share` tries a random sample, the same one each time. `--write` writes docs/mutation.md. Exit status 1: a
mutation survived that tests/mutation/accepted.py does not explain.
"""

import argparse
import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from app.demo.postgres import ephemeral_cluster
from tests.databases import ROOT, prepare
from tests.mutation.jobs import Job, all_jobs
from tests.mutation.recording import copied_project
from tests.mutation.report import report
from tests.mutation.selection import noticing_files

RESULTS = ROOT / "var" / "mutation.jsonl"
REPORT = ROOT / "docs" / "mutation.md"

Outcomes = dict[str, str]
"""By the digest of a mutated file. "stale": it survived tests that have changed since, and is tried again."""


def known_outcomes(jobs: list[Job]) -> Outcomes:
    """Return the results of earlier runs."""
    tests = {job.digest: job.tests_digest for job in jobs}
    outcomes: Outcomes = {}
    for row in map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines()):
        if row["outcome"] in ("noticed", "timeout"):
            outcomes[row["digest"]] = row["outcome"]
        elif row["outcome"] == "survived" and row["digest"] in tests:
            outcomes[row["digest"]] = "survived" if row["tests"] == tests[row["digest"]] else "stale"
    return outcomes


class Worker:
    """A copy of the project, and the processes that run mutants in it: each starts with its first mutation."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def run(self, job: Job) -> dict[str, str]:
        """The outcome of a mutation, and the test that noticed it."""
        if not job.tests:
            return {"outcome": "survived", "by": ""}
        answer = self._ask("cold" if job.is_cold else "warm", job)
        return self._ask("cold", job) if answer["outcome"] == "cold" else answer

    def _ask(self, kind: str, job: Job) -> dict[str, str]:
        process = self._processes.get(kind) or self._start(kind)
        assert process.stdin is not None
        assert process.stdout is not None
        request: dict[str, Any] = {
            "file": job.file,
            "source": job.mutation.source,
            "original": (ROOT / job.file).read_text(encoding="utf-8"),
            "tests": job.tests,
            "timeout_s": job.timeout_s,
        }
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer: dict[str, str] = json.loads(process.stdout.readline())
        return answer

    def _start(self, kind: str) -> "subprocess.Popen[str]":
        files = noticing_files() if kind == "warm" else []
        self._processes[kind] = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.worker", kind, *files],
            cwd=self._tree,
            env={**os.environ, "PYTHONPATH": str(self._tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._processes[kind]

    def close(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


@contextlib.contextmanager
def running_worker() -> Iterator[Worker]:
    with copied_project() as tree, contextlib.closing(Worker(tree)) as worker:
        yield worker


def work(jobs: "queue.SimpleQueue[Job]", outcomes: Outcomes, file: IO[str], lock: threading.Lock) -> None:
    with running_worker() as worker:
        while True:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                return
            answer = worker.run(job)
            outcome = answer["outcome"]
            with lock:
                outcomes[job.digest] = outcome
                file.write(json.dumps({"digest": job.digest, "tests": job.tests_digest, **answer}) + "\n")
                file.flush()
                mark = "accepted" if outcome == "survived" and job.reason else outcome
                by = f" ({answer['by']})" if answer["by"] else ""
                print(f"{mark:<9} {job.file}:{job.mutation.line} {job.mutation.function}: {job.change}{by}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    with ephemeral_cluster() as cluster, RESULTS.open("a", encoding="utf-8") as file:
        prepare(cluster)
        jobs = [job for job in all_jobs() if not options.words or any(word in job.file for word in options.words)]
        chosen = random.Random(0).sample(jobs, round(len(jobs) * options.share))
        outcomes = known_outcomes(jobs)
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in sorted(chosen, key=lambda job: job.first_s):  # most results soon
            if outcomes.get(job.digest, "stale") == "stale":
                waiting.put(job)
        arguments = (waiting, outcomes, file, threading.Lock())
        threads = [threading.Thread(target=work, args=arguments) for _ in range(min(options.jobs, waiting.qsize()))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if options.write:
        shown = chosen if chosen else jobs  # `--share 0` only writes
        REPORT.write_text(report(shown, len(jobs), outcomes, datetime.now(UTC).date()), encoding="utf-8")
    survived = [job for job in chosen if outcomes.get(job.digest) == "survived"]
    unexplained = [job for job in survived if job.reason is None]
    broken = [job for job in chosen if outcomes.get(job.digest) not in ("noticed", "survived", "timeout")]
    print(f"{len(chosen)} mutations: {len(survived)} survived, {len(unexplained)} unexplained, {len(broken)} not tried")
    return 1 if unexplained or broken else 0


if __name__ == "__main__":
    sys.exit(main())
