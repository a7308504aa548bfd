"""What a worker is told for each library."""

from pathlib import Path

import pytest

from mlx_serve_gateway.blas import candidates as module
from mlx_serve_gateway.blas.candidates import Candidate, candidates
from mlx_serve_gateway.blas.libraries import Kind


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {kind: Path(f"/lib/lib{kind.lower()}.so") for kind in Kind}
    monkeypatch.setattr(module, "installed", lambda: found)
    monkeypatch.setattr(module, "cores", lambda environ: environ.get("CORES", "Zen").split())


def of(kind: Kind, environ: dict[str, str] | None = None) -> list[Candidate]:
    return [each for each in candidates(environ or {}) if each.kind is kind]


def test_each_library_is_preloaded_and_told_not_to_burn_cores() -> None:
    (openblas,), (blis,), (mkl,) = (of(kind) for kind in Kind)

    assert openblas.environment["LD_PRELOAD"] == "/lib/libopenblas.so"
    # As a power of two of ticks: by itself 27 ms after each product.
    assert int(openblas.environment["OPENBLAS_THREAD_TIMEOUT"]) < 24
    assert blis.environment == {"LD_PRELOAD": "/lib/libblis.so", "BLIS_NUM_THREADS": "1"}
    assert mkl.environment == {"LD_PRELOAD": "/lib/libmkl.so", "KMP_BLOCKTIME": "0"}


def test_openblas_is_in_question_once_for_each_of_its_kernels() -> None:
    found = of(Kind.OPENBLAS, {"CORES": "Zen Haswell", "OPENBLAS_CORETYPE": "Zen"})

    assert [each.environment["OPENBLAS_CORETYPE"] for each in found] == ["Zen", "Haswell"]
    assert [str(each) for each in found] == [
        "OpenBLAS with its kernels for Zen",
        "OpenBLAS with its kernels for Haswell",
    ]


def test_what_the_person_has_set_stands() -> None:
    own = {
        "BLIS_NUM_THREADS": "4",
        "KMP_BLOCKTIME": "10",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_THREAD_TIMEOUT": "28",
    }
    for each in candidates(own):
        assert each.environment.items() >= own.items()


@pytest.mark.parametrize("name", ["BLIS", "blis"])
def test_a_library_that_is_asked_for_is_the_only_one(name: str) -> None:
    assert [each.kind for each in candidates({"MLX_SERVE_BLAS": name})] == [Kind.BLIS]


def test_one_that_is_not_here_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert len(candidates({"MLX_SERVE_BLAS": "ATLAS"})) == len(Kind)
    assert "ATLAS" in caplog.text
    assert "OpenBLAS, BLIS, MKL" in caplog.text
