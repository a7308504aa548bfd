"""The device: a slow library on a CPU is noticed where the model is loaded."""

import logging

import pytest

from mlx_serve_worker import device
from mlx_serve_worker.matmul_speed import matmul_gflops

pytestmark = pytest.mark.engine


def test_the_speed_of_this_machine_is_a_possible_one() -> None:
    assert 0.1 < matmul_gflops() < 100_000


@pytest.mark.parametrize(("gflops", "warns"), [(4.0, True), (80.0, False), (None, False)])
def test_a_slow_library_is_told_in_the_log(
    gflops: float | None,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(device, "current_gflops", lambda: gflops)
    with caplog.at_level(logging.WARNING):
        device.configure()

    assert bool(caplog.messages) is warns
    assert all("mlx-serve doctor" in message for message in caplog.messages)
