"""The list of promises speaks of this tree: mechanisms are where it says, tests are there."""

import pytest

from tests.faults.promises import PROMISES, ROOT, Mechanism

MECHANISMS = [mechanism for each in PROMISES.values() for mechanism in each]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda each: each.name)
def test_a_mechanism_can_be_taken_away(mechanism: Mechanism) -> None:
    source = (ROOT / mechanism.file).read_text()
    assert source.count(mechanism.text) == 1
    compile(source.replace(mechanism.text, mechanism.without), mechanism.file, "exec")

    file, _, test = mechanism.test.partition("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()
