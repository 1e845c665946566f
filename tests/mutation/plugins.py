"""pytest plugins of the mutation tests: recording, and running what is asked for."""

import os
import time
from collections.abc import Collection, Generator
from typing import Any

import pytest

from tests.mutation import probes


class WorkerId:
    """Replaces pytest-xdist's fixture, which names databases: the processes of mutants share a cluster."""

    @pytest.fixture(scope="session")
    @classmethod
    def worker_id(cls) -> str:
        return f"m{os.getpid()}"


class Recorder:
    """Writes down, beside the probes: the cost of each test and shared fixture, who uses whom, and failures."""

    def __init__(self) -> None:
        self._shared_s = 0.0
        self._file = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file != self._file:
            self._file = file
            probes.write("file", file)
        probes.current = nodeid

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        outer, probes.current = probes.current, _name(fixturedef)
        start, inner_s = time.monotonic(), self._shared_s
        try:
            return (yield)
        finally:
            elapsed = time.monotonic() - start
            probes.write("cost", probes.current, elapsed - (self._shared_s - inner_s))
            self._shared_s = inner_s + elapsed
            probes.current = outer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Generator[None, object, object]:
        start, shared_s = time.monotonic(), self._shared_s
        try:
            return (yield)
        finally:
            probes.write("cost", item.nodeid, time.monotonic() - start - (self._shared_s - shared_s))
            definitions = item._fixtureinfo.name2fixturedefs.values()
            names = [_name(found[-1]) for found in definitions if found[-1].scope != "function"]
            probes.write("fixtures", item.nodeid, names)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            probes.write("failed", report.nodeid.partition("::")[0])


def _name(fixture: pytest.FixtureDef[Any]) -> str:
    return f"fixture {fixture.argname} of {fixture.baseid}"


class Chosen:
    """Runs only the chosen tests, in their order, and remembers the one that failed."""

    def __init__(self, tests: Collection[str]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        self.failed = ""
        self.is_timeout = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._order), key=lambda item: self._order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid
            self.is_timeout = "timeout" in report.longreprtext.lower()
