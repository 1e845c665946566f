"""The recording of which tests execute which statements, and of each test's cost: one run of the tests with probes.

Kept in `var/mutation-tests.json` for each test file by content, so a changed test file alone is run again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.databases import ROOT
from tests.mutants import NO_SOURCE
from tests.mutation.probes import AT_IMPORT, HITS, with_probes
from tests.mutation.selection import noticing_files

KEPT = ROOT / "var" / "mutation-tests.json"
MAX_COST_S = 15.0
"""A mutation survives when the tests that execute it, in this time of the recorded run, pass."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class Recording:
    statements: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By statement: the tests and shared fixtures that execute it."""
    cost_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of a test or a shared fixture."""
    fixtures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By test: the shared fixtures that it uses."""
    _counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Sequence[Any]) -> None:
        match row:
            case ["hit", name, statement]:
                self.statements[statement].add(name)
            case ["cost", name, seconds]:
                self.cost_s[name] += seconds
            case ["fixtures", test, names]:
                self.fixtures[test] = names

    def is_at_import(self, statement: str) -> bool:
        return AT_IMPORT in self.statements[statement]

    def tests(
        self, file: str, statements: Collection[str], *, importers: Collection[str] = (), at_import: bool = False
    ) -> list[str]:
        """Return the tests that execute one of the statements, the closest and cheapest first, up to MAX_COST_S.

        A test file is close to a mutated file if it imports it, or executes at least half as many of its statements as
        another test file does. The tests of one test file come together, because they share fixtures. `at_import`: all
        other tests of the close test files too, because probes do not see who uses a constant.
        """
        names = {name for statement in statements for name in self.statements.get(statement, ())}
        executed = self._executed(file)
        most = max(executed.values(), default=0)
        inside = {test for test in self.fixtures if test in names or not names.isdisjoint(self.fixtures[test])}

        def is_close(test: str) -> bool:
            return _file(test) in importers or executed[_file(test)] >= most / 2

        def rank(test: str) -> tuple[bool, bool, bool, bool, float]:
            alone = self.cost_s[test] + sum(self.cost_s[name] for name in self.fixtures[test])
            return _file(test) not in importers, test not in inside, test not in names, not is_close(test), alone

        close = {test for test in self.fixtures if is_close(test)} if at_import else set()
        files: dict[str, list[str]] = defaultdict(list)
        for test in sorted(inside | close, key=rank):
            files[_file(test)].append(test)
        return list(self._affordable(test for tests in files.values() for test in tests))

    def _executed(self, file: str) -> Counter[str]:
        """By test file: how many statements of a mutated file it executes."""
        if file not in self._counts:
            statements = [names for statement, names in self.statements.items() if statement.startswith(f"{file}:")]
            self._counts[file] = Counter(one for names in statements for one in {_file(name) for name in names})
        return self._counts[file]

    def _affordable(self, tests: Iterator[str]) -> Iterator[str]:
        spent_s, ready = 0.0, set[str]()
        for test in tests:
            needed = set(self.fixtures[test]) - ready
            cost_s = self.cost_s[test] + sum(self.cost_s[name] for name in needed)
            if not spent_s or spent_s + cost_s <= MAX_COST_S:
                spent_s += cost_s
                ready |= needed
                yield test

    def expected_s(self, tests: Collection[str]) -> float:
        fixtures = {name for test in tests for name in self.fixtures[test]}
        return sum(self.cost_s[name] for name in (*tests, *fixtures))


def _file(test: str) -> str:
    return test.partition("::")[0]


@contextlib.contextmanager
def copied_project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ciris-billing-mutation-") as folder:
        tree = Path(folder) / "project"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NO_SOURCE))
        yield tree


def _keys() -> dict[str, str]:
    """By test file: the digest of all that its run depends on."""
    tests = [path for path in sorted((ROOT / "tests").rglob("*.py")) if "mutation" not in path.parts]
    shared = [*sorted((ROOT / "app").rglob("*.py")), *(path for path in tests if not path.name.startswith("test_"))]
    common = digest("".join(path.read_text(encoding="utf-8") for path in shared))
    return {file: digest(common + (ROOT / file).read_text(encoding="utf-8")) for file in noticing_files()}


def recording(lines: Mapping[str, Collection[int]]) -> Recording:
    """Run the test files that have no kept recording, with probes at `lines` of each file. A test must not fail."""
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    keys = _keys()
    kept = {file: entry for file, entry in kept.items() if keys.get(file) == entry["key"]}
    missing = [file for file in keys if file not in kept]
    if missing:
        rows, failed = _record(missing, lines)
        for file in missing:
            if file not in failed:
                kept[file] = {"key": keys[file], "rows": [row for name, row in rows if name == file]}
        KEPT.write_text(json.dumps(kept), encoding="utf-8")
        if failed:
            raise SystemExit(f"Tests fail without a mutation, see var/mutation.log: {', '.join(sorted(failed))}")
    recorded = Recording()
    for entry in kept.values():
        for row in entry["rows"]:
            recorded.add(row)
    return recorded


def _record(files: list[str], lines: Mapping[str, Collection[int]]) -> tuple[list[tuple[str, Any]], set[str]]:
    """The rows, each with the test file that ran, and the files that have a failure."""
    with copied_project() as tree, KEPT.with_name("mutation.log").open("w") as log:
        for file, numbers in lines.items():
            path = tree / file
            path.write_text(with_probes(path.read_text(encoding="utf-8"), file, numbers), encoding="utf-8")
        hits = tree.parent / "hits.jsonl"
        command = [sys.executable, "-m", "tests.mutation.worker", "record", *files]
        env = {**os.environ, "PYTHONPATH": str(tree), HITS: str(hits)}
        subprocess.run(command, cwd=tree, env=env, stdout=log, stderr=log, check=False)
        file, rows, failed = files[0], [], set(files)
        for line in hits.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row[0] == "file":
                file = row[1]
                failed.discard(file)
            elif row[0] == "failed":
                failed.add(row[1])
            else:
                rows.append((file, row))
        return rows, failed
