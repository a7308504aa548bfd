"""The device and the library that computes on a CPU."""

import pytest

from mlx_serve_common.device import DeviceReport
from mlx_serve_gateway.cli.checks.computing import judge_blas, judge_device
from mlx_serve_gateway.cli.checks.subject import NoDevice


def report(
    kind: str, *, is_right: bool = True, blas: str | None = None, gflops: float = 100
) -> DeviceReport:
    return DeviceReport(
        kind=kind,
        name="a chip",
        mlx_version="0.32",
        is_right=is_right,
        blas=blas,
        matmul_gflops=gflops,
    )


@pytest.mark.parametrize(
    ("found", "platform", "state", "words"),
    [
        (report("metal"), "darwin", "ok", "Metal, a chip, MLX 0.32"),
        (report("cpu"), "darwin", "warn", "Metal cannot be used"),
        (report("cpu"), "linux", "ok", "CPU"),
        (report("cuda"), "linux", "ok", "CUDA"),
        (report("metal", is_right=False), "darwin", "fail", "came out wrong"),
        (NoDevice("ImportError: no libmlx"), "linux", "fail", "ImportError: no libmlx"),
    ],
)
def test_device(found: DeviceReport | NoDevice, platform: str, state: str, words: str) -> None:
    verdict = judge_device(found, platform)
    assert verdict.state == state
    assert words in verdict.message


@pytest.mark.parametrize(
    ("found", "platform", "state"),
    [
        (report("cpu"), "linux", "warn"),
        (report("cpu", blas="OpenBLAS 0.3 for Zen"), "linux", "ok"),
        (report("cpu", blas="OpenBLAS 0.3 for Zen", gflops=4), "linux", "warn"),
        (report("cuda"), "linux", "ok"),
        (report("metal"), "darwin", "ok"),
        (NoDevice("no MLX"), "linux", "ok"),
    ],
)
def test_blas(found: DeviceReport | NoDevice, platform: str, state: str) -> None:
    assert judge_blas(found, found, platform).state == state


def test_the_blas_of_chat_models_is_told_where_it_is_another() -> None:
    usual = report("cpu", blas="OpenBLAS 0.3 for Zen")

    told = judge_blas(usual, report("cpu", blas="BLIS 0.9 for zen3"), "linux")
    assert (told.state, told.message) == (
        "ok",
        "OpenBLAS 0.3 for Zen at 100 GFLOP/s; BLIS 0.9 for zen3 for chat models",
    )
    broken = judge_blas(usual, NoDevice("it ended with exit code -4"), "linux")
    assert broken.state == "warn"
    assert "exit code -4" in broken.message
    assert "MLX_SERVE_BLAS=OpenBLAS" in (broken.remedy or "")
