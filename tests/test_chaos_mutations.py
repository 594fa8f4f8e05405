"""The seeded bugs of `script/chaos --mutate` fit the code as it is, and each is looked for by a scenario that exists."""

import ast

import pytest

from chaos.mutate import apply, fit
from chaos.mutations import MUTATIONS
from chaos.scenarios import SCENARIOS
from tests.parley import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_seeded_bug_fits_the_code(mutation):
    fit(mutation)
    assert mutation.play[0] in SCENARIOS


def test_a_seeded_bug_is_a_program_still(tmp_path):
    for number, mutation in enumerate(MUTATIONS):
        copy = tmp_path / str(number)
        for file, _, _ in mutation.changes:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_text((ROOT / file).read_text())
        apply(mutation, copy)
        for file, _, _ in mutation.changes:
            changed = (copy / file).read_text()
            assert changed != (ROOT / file).read_text()
            ast.parse(changed)


def test_there_are_twenty_and_no_two_have_one_name():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
