"""Libraries that are tried by a process."""

import sys
from pathlib import Path
from time import monotonic

import pytest

from mlx_serve_gateway.blas import measurement
from mlx_serve_gateway.blas.candidates import Candidate, candidates
from mlx_serve_gateway.blas.libraries import Kind
from mlx_serve_gateway.blas.measurement import Measurement, Speed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS")


def candidate(path: Path, **settings: str) -> Candidate:
    return Candidate(Kind.BLIS, str(path), tuple(settings.items()))


def test_each_that_is_here_has_its_speeds_and_one_that_is_broken_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLX_SERVE_BLAS")
    here = candidates({})
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF")

    absent = candidate(tmp_path / "none.so")
    speeds = Measurement((candidate(broken), *here, absent)).speeds

    assert speeds[candidate(broken)] == speeds[absent] == Speed(0, 0)
    assert all(speeds[each].few > 1 and speeds[each].many > 1 for each in here)


FAULTY_PROBE = """
import ctypes, os, sys, types
sys.path.insert(0, {folder!r})
import probe

def multiply(*given):
    if os.environ["FAULT"] == "ends the process":
        os.abort()

ctypes.CDLL = lambda path: types.SimpleNamespace(cblas_sgemm=multiply)
probe.__file__ = __file__
sys.exit(probe.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("fault", ["ends the process", "computes nothing"])
def test_one_that_computes_wrongly_or_ends_its_process_has_no_speed(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text(FAULTY_PROBE.format(folder=str(measurement._PROBE.parent)))
    monkeypatch.setattr(measurement, "_PROBE", fake)

    found = Measurement((candidate(tmp_path, FAULT=fault),)).speeds
    assert list(found.values()) == [Speed(0, 0)]


def test_a_probe_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake.py"
    # What it has started holds its output open.
    fake.write_text("import os, time\nprint('7 85', flush=True)\nos.fork()\ntime.sleep(60)\n")
    monkeypatch.setattr(measurement, "_PROBE", fake)
    monkeypatch.setattr(measurement, "_PROBE_S", 1.0)
    first, second = candidate(tmp_path / "a"), candidate(tmp_path / "b")

    began = monotonic()
    assert dict(Measurement((first, second)).speeds) == {first: Speed(7, 85)}
    assert monotonic() - began < 30
