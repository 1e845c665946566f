"""`make mutants` fits the code that it mutates. It is too slow to run with the tests, so nothing else would notice."""

import pytest

from tests.databases import ROOT
from tests.mutants import CODE, Mutant
from tests.mutation.accepted import ACCEPTED
from tests.mutation.points import mutations
from tests.mutation.selection import mutated_files, selected_tests


@pytest.mark.parametrize("mutant", CODE, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_text_once_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert [test for test in mutant.tests if not (ROOT / test).exists()] == []


def test_each_mutated_file_has_tests_that_must_notice() -> None:
    files = mutated_files()
    assert {
        "app/ledger/pools.py",
        "app/payments/facts.py",
        "app/tools/service.py",
        "app/auth/id_tokens/verifier.py",
    } <= set(files)
    assert [test for file in files for test in selected_tests(file) if not (ROOT / test).exists()] == []


def test_accepted_survivors_are_mutations_of_the_code_as_it_is() -> None:
    files = {file for file, _, _ in ACCEPTED}
    existing = {
        (file, mutation.function, f"{mutation.before} → {mutation.after}")
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
