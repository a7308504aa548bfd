"""What is installed tells whether a GPU computes."""

import sys
from pathlib import Path

import pytest

from mlx_serve_gateway import gpu
from mlx_serve_gateway.gpu import has_gpu


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has one whatever is installed")
@pytest.mark.parametrize(
    ("package", "expected"),
    [("mlx_cuda_13-0.32.4", True), ("mlx_cuda_12-0.40.0", True), ("mlx_cpu-0.32.4", False)],
)
def test_only_the_packages_for_cuda_make_one(
    package: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{package}.dist-info").mkdir()
    monkeypatch.setattr(gpu, "_folders", lambda: [tmp_path])
    assert has_gpu() is expected


def test_mlx_is_found_without_being_imported() -> None:
    assert [folder / "mlx" for folder in gpu._folders() if (folder / "mlx").is_dir()]


def test_every_mac_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_gpu()
