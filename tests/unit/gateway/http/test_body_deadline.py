"""How long a body is waited for."""

import pytest

from mlx_serve_gateway.http.body_deadline import patience_s


@pytest.mark.parametrize(
    ("received", "waited"),
    [(0, 10), (1023, 10.999), (1024, 11), (10_240, 20), (20_480, 30), (10**9, 30)],
)
def test_who_sends_more_is_waited_for_longer(received: int, waited: float) -> None:
    assert patience_s(received, 30) == pytest.approx(waited, abs=0.001)
