"""What is noted of a model's passes, and what is believed of it."""

import os
from pathlib import Path

import pytest

from mlx_serve_common import measured_budgets
from mlx_serve_common.measured_budgets import (
    MeasuredBudget,
    forget_budget,
    note_budget,
    read_budget,
)
from mlx_serve_common.store import Store
from tests.store import ModelStore


def noted(model: str, tokens: int = 256, circumstances: str = "here") -> MeasuredBudget:
    return MeasuredBudget(model=model, circumstances=circumstances, tokens=tokens)


def file_of(folder: Path) -> Path:
    (found,) = (folder / ".budgets").iterdir()
    return found


def test_the_last_note_counts_and_only_where_it_was_made(tmp_path: Path) -> None:
    assert read_budget(tmp_path, "tiny", "here") is None
    note_budget(tmp_path, noted("tiny", 128))
    note_budget(tmp_path, noted("tiny", 256))
    assert read_budget(tmp_path, "tiny", "here") == 256
    assert read_budget(tmp_path, "tiny", "elsewhere") is None
    assert read_budget(tmp_path, "other", "here") is None
    assert file_of(tmp_path).suffix == ".json"
    forget_budget(tmp_path, "tiny")
    forget_budget(tmp_path, "tiny")
    assert read_budget(tmp_path, "tiny", "here") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 5000, b'{"model": "tiny"}', b'{"tokens": "many"}']
)
def test_a_damaged_note_is_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    note_budget(tmp_path, noted("tiny"))
    file_of(tmp_path).write_bytes(content)
    assert read_budget(tmp_path, "tiny", "here") is None
    note_budget(tmp_path, noted("tiny"))
    assert read_budget(tmp_path, "tiny", "here") == 256


def test_what_is_no_file_is_no_note(tmp_path: Path) -> None:
    note_budget(tmp_path, noted("tiny"))
    path = file_of(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert read_budget(tmp_path, "tiny", "here") is None


def test_there_are_a_bounded_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_budgets, "_MOST", 3)
    for number in range(5):
        note_budget(tmp_path, noted(f"model-{number}"))
        newest = max((tmp_path / ".budgets").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    known = [number for number in range(5) if read_budget(tmp_path, f"model-{number}", "here")]
    assert known == [2, 3, 4]


def test_nothing_stays_of_a_note_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(measured_budgets, "sync", full)
    with pytest.raises(OSError, match="no space"):
        note_budget(tmp_path, noted("tiny"))
    assert list((tmp_path / ".budgets").iterdir()) == []


def test_it_goes_with_its_model(store: ModelStore) -> None:
    store.add("tiny")
    note_budget(store.models_dir, noted("tiny"))
    Store(store.models_dir).withdraw("tiny")
    assert read_budget(store.models_dir, "tiny", "here") is None
