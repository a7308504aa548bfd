"""One server for all faults, so that what one of them leaves behind meets the next."""

from collections.abc import Iterator

import pytest

from tests.faults.invariants import Rest, inv
from tests.faults.invariants import rest as at_rest
from tests.faults.rig import Rig
from tests.faults.rig import rig as new_rig


@pytest.fixture(scope="package")
def server() -> Iterator[tuple[Rig, Rest]]:
    with new_rig() as rig:
        for model in ("a", "b"):
            rig.assert_serves(model)
        assert rig.chat("hello").status == 200
        yield rig, at_rest(rig)


@pytest.fixture
def rig(server: tuple[Rig, Rest]) -> Iterator[Rig]:
    """The server; after the test everything must be as it was."""
    rig, before = server
    yield rig
    inv(rig, before)
