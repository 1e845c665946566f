"""`make mutants` fits the code that it mutates. It is too slow to run with the tests, so nothing else would notice."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.code_mutants import CODE, Mutant
from tests.databases import ROOT
from tests.mutation import probes
from tests.mutation.accepted import ACCEPTED
from tests.mutation.patching import live_functions, patch
from tests.mutation.points import mutations
from tests.mutation.recording import MAX_COST_S, Recording
from tests.mutation.selection import FOLDERS, PACKAGES, mutated_files, noticing_files
from tests.mutation.uses import statements_using, uses


@pytest.mark.parametrize("mutant", CODE, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_text_once_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert [test for test in mutant.tests if not (ROOT / test).exists()] == []


def test_decisions_of_the_money_core_are_mutated_and_every_test_that_may_notice_exists() -> None:
    files = mutated_files()
    assert {
        "app/ledger/pools.py",
        "app/payments/facts.py",
        "app/tools/service.py",
        "app/auth/id_tokens/verifier.py",
    } <= set(files)
    assert {"tests/billing/test_pools.py", "tests/test_machine.py"} <= set(noticing_files())
    assert [path for path in noticing_files() if not (ROOT / path).exists()] == []
    with_tests = {package for package in PACKAGES if (ROOT / "tests" / package).is_dir()}
    assert with_tests - set(FOLDERS) == set()


def test_accepted_survivors_are_mutations_of_the_code_as_it_is() -> None:
    files = {file for file, _, _ in ACCEPTED}
    existing = {
        (file, mutation.text, f"{mutation.before} → {mutation.after}")
        for file in files
        for mutation in mutations((ROOT / file).read_text(encoding="utf-8"))
    }
    assert set(ACCEPTED) - existing == set()
    assert all(len(reason) > 20 for reason in ACCEPTED.values())


DECISION = """
def pay(pools: dict[str, int] | None, cost: int, *, strict: bool = True) -> int:
    \"\"\"Not 1 and not 2: a docstring.\"\"\"
    assert cost > 0
    log.info("paid", cost=cost + 1)
    if not pools:
        raise ValueError(f"{cost + 1} cannot be paid")
    while cost:
        cost -= 1
    return min(cost, sum(pools.values()) - 2) if cost <= 5 and strict else 0
"""


def test_mutations_change_decisions_and_nothing_else() -> None:
    found = {(mutation.before, mutation.after) for mutation in mutations(DECISION)}
    assert found == {
        ("not pools", "bool(pools)"),
        ('raise ValueError(f"{cost + 1} cannot be paid")', "pass"),
        ("1", "2"),  # of the loop's step
        ("min", "max"),
        ("sum(pools.values()) - 2", "(sum(pools.values()) + 2)"),
        ("2", "3"),
        ("cost <= 5 and strict", "(cost <= 5 or strict)"),
        ("cost <= 5", "(cost < 5)"),
        ("cost <= 5", "(cost > 5)"),
        ("5", "6"),
        ("0", "1"),
    }
    for mutation in mutations(DECISION):
        assert mutation.source != DECISION
        compile(mutation.source, "decision", "exec")


def test_probes_write_down_which_test_executes_which_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {mutation.statement for mutation in mutations(DECISION)}
    source = probes.with_probes(f'"""A module."""\n{DECISION}', "pay.py", {line + 1 for line in lines})
    hits = tmp_path / "hits"
    monkeypatch.setenv(probes.HITS, str(hits))
    monkeypatch.setattr(probes, "current", "test_that_pays")
    module = ast.parse(source)
    assert ast.get_docstring(module) == "A module."
    namespace: dict[str, object] = {}
    exec(compile(source.replace("log.", "0 and log."), "pay.py", "exec"), namespace)
    pay = namespace["pay"]
    assert callable(pay)
    for _ in range(2):
        with pytest.raises(ValueError, match="2 cannot be paid"):
            pay(None, 1)
    rows = [json.loads(line) for line in hits.read_text(encoding="utf-8").splitlines()]
    assert rows == [["hit", "test_that_pays", f"pay.py:{line}"] for line in (7, 8)]


def test_a_recording_names_the_closest_tests_first_and_no_more_than_it_may_cost() -> None:
    shared, far, near, slow = "fixture app of tests", "tests/test_a.py::a", "tests/test_b.py::b", "tests/test_c.py::c"
    costs = {shared: 1, far: 1, near: 2, slow: MAX_COST_S}
    rows: list[list[object]] = [["cost", name, cost] for name, cost in costs.items()]
    rows += [["hit", name, "app/pay.py:1"] for name in (far, near, slow)]
    rows += [["hit", near, f"app/pay.py:{line}"] for line in (3, 4)]
    rows += [["hit", shared, "app/cache.py:1"]]
    rows += [["fixtures", name, names] for name, names in ((far, [shared]), (near, [shared]), (slow, []))]
    recorded = Recording()
    for row in rows:
        recorded.add(row)
    assert recorded.tests("app/pay.py", ["app/pay.py:1"]) == [near, far]
    assert recorded.tests("app/cache.py", ["app/cache.py:1"]) == [far, near]
    assert recorded.tests("app/pay.py", ["app/pay.py:2"]) == []
    assert recorded.expected_s([near, far]) == 4


def test_what_uses_a_constant_is_found_through_other_constants() -> None:
    source = "SIZE = 2\nROOM = SIZE + 1\ndef fits(n):\n    m = n\n    return n < ROOM\ndef other(n):\n    return n\n"
    assert set(statements_using("SIZE", uses({"a.py": source}))) == {"a.py:1", "a.py:2", "a.py:5"}


def test_a_patch_changes_functions_that_others_have_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "patched_by_test.py"
    source = "class A:\n    def one(self):\n        return 1\n\n\ndef outer():\n    n = 5\n    return lambda: n + 1\n"
    path.write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(path.stem)
    one, outer, inner = module.A().one, module.outer, module.outer()
    functions = live_functions()
    assert not patch(functions, path, source, source.replace("lambda: n + 1", "None"))  # a function is missing
    assert not patch(functions, path, source, source.replace("n + 1", "1"))  # it closes over nothing
    assert (one(), outer()(), inner()) == (1, 6, 6)
    assert patch(functions, path, source, source.replace("1", "2"))
    assert (one(), outer()(), inner()) == (2, 7, 7)
    sys.modules.pop(path.stem)
