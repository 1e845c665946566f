"""Test steps, their runner and their results."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

Outcome = Literal["passed", "failed", "skipped"]
TIMEOUT_S = 5.0
"""The time limit of an agent."""


class Failed(Exception):
    """The answer does not match the documentation."""


class Skipped(Exception):
    """The deployment does not offer this optional feature."""


@dataclass
class Target:
    """The deployment under test. Its users are temporary and unique to the run."""

    http: httpx.Client
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    facts: dict[str, Any] = field(default_factory=dict)
    """Results of earlier steps for later ones."""

    def user(self, name: str) -> dict[str, str]:
        return {"oauth_provider": "oauth:qa", "external_id": f"qa/{self.run_id}:{name}@qa.invalid"}

    def ask(self, method: str, path: str, expected: int | tuple[int, ...], **request: Any) -> httpx.Response:
        """Send a request and return the answer. Raises Failed for an unexpected status."""
        answer = self.http.request(method, path, **request)
        statuses = (expected,) if isinstance(expected, int) else expected
        allowed = " or ".join(str(status) for status in statuses)
        expect(answer.status_code in statuses, f"{method} {path}: {answer.status_code}, not {allowed}")
        return answer

    def known(self, name: str) -> Any:
        """Return the result of an earlier step. Raises Skipped if that step did not succeed."""
        if name not in self.facts:
            raise Skipped("an earlier step did not succeed")
        return self.facts[name]


@dataclass(frozen=True)
class Step:
    suite: str
    name: str
    run: Callable[[Target], str | None]
    """Returns a note for the report; raises Failed or Skipped."""


@dataclass(frozen=True)
class Result:
    suite: str
    name: str
    outcome: Outcome
    duration_ms: float
    note: str


class Suite:
    """A list of steps, filled by a decorator."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []

    def step(self, name: str) -> Callable[[Callable[[Target], str | None]], Callable[[Target], str | None]]:
        def join(run: Callable[[Target], str | None]) -> Callable[[Target], str | None]:
            self.steps.append(Step(self.name, name, run))
            return run

        return join


def run_steps(steps: Iterable[tuple[Step, Target]], begun: Callable[[Step], None]) -> Iterator[Result]:
    """Run the steps in order. A failed step does not stop the others."""
    for step, target in steps:
        begun(step)
        started = time.perf_counter()
        outcome: Outcome = "passed"
        try:
            note = step.run(target) or ""
        except Skipped as reason:
            outcome, note = "skipped", str(reason)
        except Failed as reason:
            outcome, note = "failed", str(reason)
        except httpx.HTTPError as error:
            outcome, note = "failed", f"{type(error).__name__}: no answer"
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            outcome, note = "failed", f"the answer is not as documented: {type(error).__name__} {error}"
        yield Result(step.suite, step.name, outcome, round((time.perf_counter() - started) * 1000, 1), note)


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise Failed(otherwise)


def equal(what: str, found: object, expected: object) -> None:
    expect(found == expected, f"{what} is {found!r}, not {expected!r}")


def has_fields(answer: httpx.Response, expected: frozenset[str]) -> dict[str, Any]:
    """Return the answer's object. Raises Failed if it has not exactly these fields, which strict clients require."""
    found: dict[str, Any] = answer.json()
    missing, extra = sorted(expected - set(found)), sorted(set(found) - expected)
    expect(not missing, f"fields are missing: {', '.join(missing)}")
    expect(not extra, f"fields are not documented: {', '.join(extra)}")
    return found
