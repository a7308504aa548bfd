"""What happens to the models folder behind the server's back."""

import shutil

import pytest

from mlx_serve_common.models import MANIFEST_FILE
from tests.faults.rig import Rig

pytestmark = pytest.mark.process


def test_a_model_is_taken_away_while_it_is_not_loaded(rig: Rig) -> None:
    rig.store.add("gone")
    rig.assert_serves("gone")
    rig.let_go()
    shutil.rmtree(rig.store.models_dir / "gone")
    assert rig.embed("gone", "x").code == "model_not_found"
    rig.assert_serves("a")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b"0" * 100_000])
def test_a_damaged_manifest_hides_no_other(rig: Rig, damage: bytes) -> None:
    folder = rig.store.add_raw("damaged", damage)
    assert rig.embed("damaged", "x").status in (404, 500)
    rig.assert_serves("a")
    shutil.rmtree(folder)


def test_a_model_that_is_replaced_by_a_file(rig: Rig) -> None:
    path = rig.store.models_dir / "file"
    path.write_bytes(b"not a folder")
    assert rig.embed("file", "x").code == "model_not_found"
    path.unlink()


def test_a_manifest_that_is_a_folder(rig: Rig) -> None:
    folder = rig.store.models_dir / "folder"
    (folder / MANIFEST_FILE).mkdir(parents=True)
    assert rig.embed("folder", "x").status in (404, 500)
    rig.assert_serves("a")
    shutil.rmtree(folder)


def test_a_model_that_dies_while_loading_is_given_a_rest(rig: Rig) -> None:
    rig.store.add("dying", crash_at_load=True)
    answers = [rig.embed("dying", "x") for _ in range(5)]
    assert {(answer.status, answer.code) for answer in answers} == {(503, "model_unavailable")}
    assert rig.gateway.log().count("the worker of dying crashed") == 3
    shutil.rmtree(rig.store.models_dir / "dying")
