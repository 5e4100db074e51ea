"""The table of defects fits the tree: each patch applies and breaks a file, each test is there."""

import pytest

from tests.faults.defects.machine_table import BY_MACHINE, ONLY_HERE
from tests.faults.defects.table import DEFECTS, Defect
from tests.fuzz.machines import MACHINES
from tests.support.sources import ROOT


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_applies_to_the_tree(defect: Defect) -> None:
    sound = (ROOT / defect.patch.file).read_text(encoding="utf-8")
    assert defect.patch.apply(sound) != sound
    for test in defect.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("defect", ONLY_HERE, ids=lambda defect: defect.name)
def test_a_defect_for_machines_applies_to_the_tree(defect: Defect) -> None:
    sound = (ROOT / defect.patch.file).read_text(encoding="utf-8")
    assert defect.patch.apply(sound) != sound


def test_each_is_asked_of_a_machine_that_is_there() -> None:
    assert {machine for machine, _ in BY_MACHINE} <= MACHINES.keys()
    assert {defect for _, defect in BY_MACHINE} >= set(ONLY_HERE)
    assert len({defect.name for defect in (*DEFECTS, *ONLY_HERE)}) == len(DEFECTS) + len(ONLY_HERE)


def test_a_patch_that_fits_nowhere_or_twice_is_refused() -> None:
    patch = DEFECTS[0].patch
    with pytest.raises(ValueError, match="0 places"):
        patch.apply("")
    with pytest.raises(ValueError, match="2 places"):
        patch.apply(patch.old * 2)


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 15
