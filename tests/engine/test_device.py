"""The device: how MLX is set up for it, and that a slow library on a CPU is noticed."""

import logging
import platform
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_serve_worker import device
from mlx_serve_worker.matmul_speed import matmul_gflops
from tests.engine.python import run_python

_SET = """
import os
import mlx.core as mx
from mlx_serve_worker import device

device.configure()
print(os.environ["MLX_BFS_MAX_WIDTH"], mx.set_cache_limit(0))
"""

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


@pytest.mark.skipif(device.current().fuses, reason="a GPU keeps what MLX does by itself")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_lanes_are_started_side_by_side_and_memory_is_left_to_the_heap() -> None:
    width, cache_bytes = run_python(_SET).split()
    assert int(width) > 20  # MLX's own: see where it is set
    assert int(cache_bytes) == 0
    (library,) = (Path(mx.__file__).parent / "lib").glob("libmlx.*")
    assert b"MLX_BFS_MAX_WIDTH" in library.read_bytes()
