"""`make mutants` fits the code that it mutates. It is too slow to run with the tests, so nothing else would notice."""

import pytest

from tests.databases import ROOT
from tests.mutants import CODE, Mutant


@pytest.mark.parametrize("mutant", CODE, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_text_once_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert [test for test in mutant.tests if not (ROOT / test).exists()] == []
