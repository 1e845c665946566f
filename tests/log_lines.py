"""A pytest plugin that drops the log lines between two tests, which pytest would print among its dots."""

import io
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog


class NoLinesBetweenTests(io.StringIO):
    """The file to which structlog writes: stderr, but only while pytest captures it.

    A server in another thread writes a request's line after its answer, when the test may have ended.
    """

    def __init__(self) -> None:
        self._stderr = sys.stderr
        self._lock = threading.Lock()
        self._is_captured = False
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(self))

    def write(self, text: str) -> int:
        with self._lock:  # so that the test does not end between the question and the line
            if self._is_captured:
                self._stderr.write(text)
                self._stderr.flush()
        return len(text)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        yield from self._captured()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        yield from self._captured()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        yield from self._captured()

    def _captured(self) -> Iterator[None]:
        """Around the innermost part of a phase, which is inside of pytest's own capture."""
        self._is_captured = True
        try:
            yield
        finally:
            with self._lock:
                self._is_captured = False
