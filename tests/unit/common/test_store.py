"""Publishing: in which order a model comes onto the disk."""

from pathlib import Path

import pytest

from mlx_serve_common import durable, store
from mlx_serve_common.store import Store


@pytest.mark.parametrize("replacing", [False, True])
def test_a_model_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing: bool
) -> None:
    """A power cut forgets what was not forced to the disk, and may keep what came later."""
    done: list[str] = []

    def sync(path: Path) -> None:
        done.append(f"{path.name} is on the disk")

    def publishes(self: Path, target: Path) -> Path:
        done.append(f"{self.name} is {target.name}")
        return self

    monkeypatch.setattr(durable, "sync", sync)
    monkeypatch.setattr(store, "sync", sync)
    monkeypatch.setattr(Path, "rename", publishes)
    monkeypatch.setattr(store, "exchange", lambda one, other: bool(publishes(one, other)))
    staged = tmp_path / "staged"
    (staged / "inner").mkdir(parents=True)
    (staged / "manifest.json").touch()
    (staged / "inner/weights").touch()
    models = tmp_path / "models"
    if replacing:
        (models / "tiny").mkdir(parents=True)
    Store(models).publish(staged, "tiny", replace=replacing)

    named = done.index("staged is tiny")
    whole = ("weights", "inner", "manifest.json", "staged")
    assert sorted(done[:named]) == sorted(f"{name} is on the disk" for name in whole)
    assert done[named + 1] == "models is on the disk"
