"""Whose word counts when OpenBLAS's kernels are chosen."""

from pathlib import Path

import pytest

from mlx_serve_gateway import openblas_core
from mlx_serve_gateway.openblas_core import core_type, suited_core
from mlx_serve_gateway.worker_env import find_openblas

LIBRARY = Path("/lib/libopenblas.so.0")
AVX512 = "fpu avx avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(openblas_core, "_cpu_flags", lambda: set(AVX512.split()))
    openblas_core._faster.cache_clear()


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    speeds: dict[str, float] = {}
    monkeypatch.setattr(openblas_core, "_gflops", lambda library, core: speeds[core])
    return speeds


@pytest.mark.parametrize(
    ("flags", "core"), [(AVX512, "SkylakeX"), ("fpu avx avx2 fma", "Haswell"), ("fpu avx", None)]
)
def test_the_flags_name_the_kernels(flags: str, core: str | None) -> None:
    assert suited_core(set(flags.split())) == core


def test_nothing_is_measured_without_a_question(speeds: dict[str, float]) -> None:
    assert core_type(LIBRARY, {}) == "SkylakeX"
    assert core_type(LIBRARY, {"OPENBLAS_CORETYPE": "skylakex"}) == "skylakex"
    asked = {"OPENBLAS_CORETYPE": "Zen", "MLX_SERVE_OPENBLAS_CORETYPE": "Haswell"}
    assert core_type(LIBRARY, asked) == "Haswell"


def test_what_the_environment_names_gives_way_to_what_is_clearly_faster(
    speeds: dict[str, float],
) -> None:
    speeds |= {"Haswell": 90.0, "SkylakeX": 400.0}
    assert core_type(LIBRARY, {"OPENBLAS_CORETYPE": "Haswell"}) == "SkylakeX"


@pytest.mark.parametrize("suited", [0.0, 80.0, 100.0])
def test_what_is_no_faster_or_wrong_is_not_taken(suited: float, speeds: dict[str, float]) -> None:
    speeds |= {"Haswell": 90.0, "SkylakeX": suited}
    assert core_type(LIBRARY, {"OPENBLAS_CORETYPE": "Haswell"}) == "Haswell"


def test_a_library_that_does_not_compute_has_no_speed(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"\x7fELF")
    assert openblas_core._gflops(str(tmp_path / "broken.so"), "Haswell") == 0


@pytest.mark.skipif(find_openblas() is None, reason="there is no OpenBLAS")
def test_the_real_one_computes_exactly() -> None:
    assert openblas_core._gflops(str(find_openblas()), "") > 0
