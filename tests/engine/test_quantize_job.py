"""The quantize job as a process: its events, and its death at every point."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.models import read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from tests.deaths import dying_at, points
from tests.engine import starter, tiny
from tests.engine.models import load
from tests.engine.test_starter import environment

pytestmark = pytest.mark.engine


def command(models: Path, *more: str, model: str = "tiny") -> list[str]:
    job = [sys.executable, "-P", "-m", "mlx_serve_worker.job", "quantize"]
    return [*job, f"--models-dir={models}", f"--model={model}", "--bits=8", *more]


SMALL_GROUPS = "--group-size=32"


def run(arguments: list[str], timeout_s: float = 60) -> tuple[int, list[JobEvent]]:
    done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=timeout_s)
    return done.returncode, [decode_event(line) for line in done.stdout.splitlines()]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny.build(tiny.LAYOUTS["prompt-left-out"], tmp_path / "source")
    store = Store(tmp_path / "models")
    install(tmp_path / "source", store, Origin("tiny"), "refuse", lambda event: None)
    return store.models_dir


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(models: Path) -> set[str]:
    return {path.name for path in models.glob("[!.]*/")}


def assert_nothing_staged(models: Path) -> None:
    with Store(models).staging():
        (own,) = (path for path in (models / ".staging").iterdir() if path.is_dir())
        assert not [*own.iterdir()]


def test_success_tells_what_was_gained_and_lost(models: Path) -> None:
    before = snapshot(models / "tiny")
    code, events = run(command(models, SMALL_GROUPS))
    assert code == 0, events
    last = events[-1]
    assert (last.status, last.model) == ("success", "tiny-8bit")
    made = read_manifest(models / "tiny-8bit")
    assert last.quality == made.quality is not None
    assert (last.original_size, last.quantized_size) == (made.original_size, made.quantized_size)
    assert snapshot(models / "tiny") == before


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--bits=x"], ErrorCode.INVALID_REQUEST),
        (["--model=absent"], ErrorCode.MODEL_NOT_FOUND),
        (["--name=tiny"], ErrorCode.INVALID_REQUEST),
    ],
)
def test_error_is_the_last_event(more: list[str], code: ErrorCode, models: Path) -> None:
    status, events = run(command(models, SMALL_GROUPS, *more))
    assert (status, events[-1].code) == (1, code)
    assert listed(models) == {"tiny"}


def test_full_disk(models: Path) -> None:
    before = snapshot(models / "tiny")
    # No file may grow beyond this, as none may on a full disk; the weights are larger.
    limit = 20_000
    done = subprocess.run(
        command(models, SMALL_GROUPS),
        env=environment(),
        capture_output=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    last = decode_event(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert last.error is not None
    assert "large" in last.error
    assert listed(models) == {"tiny"}
    assert snapshot(models / "tiny") == before
    assert_nothing_staged(models)


_NO_ROOM = """
import shutil
from mlx_serve_worker import job
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10, 10, 0)
raise SystemExit(job.main())
"""


def test_no_room(models: Path) -> None:
    arguments = command(models, SMALL_GROUPS)
    arguments[1:4] = ["-c", _NO_ROOM]
    code, events = run(arguments)
    assert code == 1
    assert "disk is full" in (events[-1].error or "")
    assert "quantizing" not in [event.status for event in events]
    assert listed(models) == {"tiny"}


_POINTS = points(
    "mlx.core:save_safetensors",
    "mlx_serve_worker.converting:link_file",
    "mlx_serve_worker.converting:try_out",
    "mlx_serve_common.store:sync_tree",
    "pathlib/Path:rename",
    "mlx_serve_common.store:sync",
)


@pytest.mark.parametrize("point", _POINTS)
def test_death_at_any_point(point: str, models: Path) -> None:
    code, _ = run(dying_at(point, command(models, SMALL_GROUPS)))
    assert code == -signal.SIGKILL
    was_published = "store:sync:" in point or point.endswith("rename:after")
    assert ("tiny-8bit" in listed(models)) == was_published
    assert_every_model_answers(models)
    code, events = run(command(models, SMALL_GROUPS, "--name=again"))
    assert code == 0, events
    assert_nothing_staged(models)


def assert_every_model_answers(models: Path) -> None:
    for name in listed(models):
        assert read_manifest(models / name).name == name
        load(models / name)


# --- a real model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    source = starter.folder()
    if source is None:
        pytest.skip("the starter model is not here; scripts/starter fetches it")
    store = Store(tmp_path_factory.mktemp("starter") / "models")
    yield store.models_dir
    for path in store.models_dir.rglob("*.safetensors"):
        path.unlink()  # 120 MB that pytest would keep three times


_FEW_TEXTS = """
from mlx_serve_worker import job, quality
quality.TEXTS = quality.TEXTS[::5]
raise SystemExit(job.main())
"""


@pytest.mark.parametrize("amount", ["few", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_eight_bits_of_the_starter_model(amount: str, starter_models: Path) -> None:
    importing = [
        sys.executable, "-P", "-m", "mlx_serve_worker.job", "import", "--name=MiniLM",
        f"--source={starter.folder()}", f"--models-dir={starter_models}", "--exist-ok",
    ]  # fmt: skip
    assert run(importing)[0] == 0
    quantizing = command(starter_models, f"--name={amount}", model="MiniLM")
    if amount == "few":
        quantizing[1:4] = ["-c", _FEW_TEXTS]
    code, events = run(quantizing, timeout_s=240)
    assert code == 0, events
    quality = events[-1].quality
    assert quality is not None
    assert (quality.mean_cosine or 0) >= 0.999
    assert (quality.min_cosine or 0) >= 0.999
    assert (quality.rank_correlation or 0) >= 0.999
    assert (events[-1].quantized_size or 0) < 0.3 * (events[-1].original_size or 0)
    assert read_manifest(starter_models / amount).plain_layers == 0
