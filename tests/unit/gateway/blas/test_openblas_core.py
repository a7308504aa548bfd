"""Which of OpenBLAS's kernels are in question."""

import pytest

from mlx_serve_gateway.blas import openblas_core
from mlx_serve_gateway.blas.openblas_core import cores, suited_core

AVX512 = "fpu avx avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(openblas_core, "_cpu_flags", lambda: set(AVX512.split()))


@pytest.mark.parametrize(
    ("flags", "core"), [(AVX512, "SkylakeX"), ("fpu avx avx2 fma", "Haswell"), ("fpu avx", None)]
)
def test_the_flags_name_the_kernels(flags: str, core: str | None) -> None:
    assert suited_core(set(flags.split())) == core


def test_other_processors_are_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cores({}) == [None]
    assert cores({"OPENBLAS_CORETYPE": "NEOVERSEN1"}) == ["NEOVERSEN1"]


def test_there_is_no_question_where_one_name_is_left() -> None:
    assert cores({}) == ["SkylakeX"]
    assert cores({"OPENBLAS_CORETYPE": "skylakex"}) == ["skylakex"]
    asked = {"OPENBLAS_CORETYPE": "Zen", "MLX_SERVE_OPENBLAS_CORETYPE": "Haswell"}
    assert cores(asked) == ["Haswell"]


def test_what_the_person_has_named_comes_first() -> None:
    assert cores({"OPENBLAS_CORETYPE": "Haswell"}) == ["Haswell", "SkylakeX"]
