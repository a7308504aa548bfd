"""The example definitions in deploy/ are what the code writes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deployment", ROOT / "scripts/deployment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_as_the_code_is(deployment: ModuleType) -> None:
    assert deployment.main(["--check"]) == 0


def test_a_change_is_found(
    deployment: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(deployment, "DEPLOY", tmp_path)
    assert deployment.main(["--check"]) == 1
    assert deployment.main([]) == 0
    assert deployment.main(["--check"]) == 0
    capsys.readouterr()
    (tmp_path / "systemd/user/mlx-serve.service").write_text("[Unit]\n")
    assert deployment.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "generate: deploy/systemd/user/mlx-serve.service is out of date: run scripts/generate"
    ]
