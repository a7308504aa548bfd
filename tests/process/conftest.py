"""What tests with real processes share; none may leave a child behind, not even a zombie."""

from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    me = psutil.Process()
    before = set(me.children())
    yield
    left = set(me.children()) - before
    for child in left:
        child.kill()
    assert left == set()
