"""Everything at once; ``scripts/faults --chaos`` does it for as long as one likes."""

import pytest

from tests.faults.chaos import wreak

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_minute_of_everything() -> None:
    record = wreak(60, seed=2026)
    assert not record.wrong, record.report()
    assert record.answers["200"] > 500, record.report()
