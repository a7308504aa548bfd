"""Pulling a model in another form than the hub's: only that form is installed."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from mlx_serve_common.conversion import Conversion, Scheme
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.models import MANIFEST_FILE
from mlx_serve_worker import weights
from tests.deaths import dying_at, points
from tests.engine import quantized, tiny
from tests.hub.faults import Fault
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import REPO, WEIGHTS, Home
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

MXFP8 = Conversion(Scheme(32, 8, "mxfp8"))
HALF = Conversion(dtype="float16")
AS_MXFP8 = "--mode=mxfp8"


def dtypes(home: Home, name: str) -> set[str]:
    return {each.dtype for each in weights.read_header(home.models / name / WEIGHTS)}


def test_quantized_on_arrival(home: Home) -> None:
    events = home.run(AS_MXFP8)
    stages = list(dict.fromkeys(event.status for event in events))
    assert stages == ["resolving", "downloading", "verifying", "quantizing", "success"]
    last = events[-1]
    assert (last.model, home.installed()) == ("tiny-mxfp8", ["tiny-mxfp8"])
    assert last.quality is not None
    assert (last.quality.mean_cosine or 0) > 0.99
    assert (last.quantized_size or 0) < (last.original_size or 0)
    made = home.pull(conversion=MXFP8)  # it is there
    assert (made.source, made.revision) == (REPO, home.hub.repositories[REPO].commit)
    assert (made.conversion, made.converted_from) == (MXFP8, "tiny")
    assert made.verified is not None and made.verified.passed
    home.assert_works("tiny-mxfp8")
    home.assert_nothing_left()


def test_of_another_type(home: Home) -> None:
    made = home.pull(conversion=HALF)
    assert "converting" in [event.status for event in home.events]
    assert (made.name, made.dtype, made.quantization) == ("tiny-fp16", "float16", None)
    assert dtypes(home, "tiny-fp16") <= {"F16", "I64"}
    config = json.loads((home.models / "tiny-fp16/config.json").read_bytes())
    assert config["dtype"] == "float16"
    assert made.quality is not None and (made.quality.min_cosine or 0) > 0.999
    home.assert_works("tiny-fp16")
    both = home.pull(conversion=Conversion(MXFP8.scheme, "float16"))
    assert (both.name, both.dtype, home.installed()) == (
        "tiny-fp16-mxfp8", "float16", ["tiny-fp16", "tiny-fp16-mxfp8"],
    )  # fmt: skip
    assert "F32" not in dtypes(home, both.name)
    home.assert_works(both.name)


def test_an_installed_original_is_used_and_stays(home: Home) -> None:
    home.pull()
    asked = len(home.hub.requests)
    events = home.run(AS_MXFP8, HF_HUB_OFFLINE="1")
    assert (events[-1].status, events[-1].model) == ("success", "tiny-mxfp8"), events
    assert len(home.hub.requests) == asked
    assert home.installed() == ["tiny", "tiny-mxfp8"]
    # What the hub has now is another matter.
    home.pull(conversion=MXFP8, replace=True)
    assert home.hub.bytes_sent[WEIGHTS] == 2 * len(home.hub.repositories[REPO].content()[WEIGHTS])
    assert home.installed() == ["tiny", "tiny-mxfp8"]


def test_revisions(home: Home, tiny_files: dict[str, bytes]) -> None:
    old = home.pull().revision
    newer = home.hub.add(HubRepository(REPO, tiny_files | {"extra.json": b"{}"}))
    assert home.pull(f"{REPO}@{old}", conversion=MXFP8).revision == old
    made = home.pull(f"{REPO}@main", conversion=HALF)
    assert made.revision == newer.commit != old


def test_a_name_means_one_form(home: Home) -> None:
    home.pull(conversion=MXFP8, name="mine")
    for wish in ({"conversion": HALF}, {"conversion": None}):
        refused = home.refusal(name="mine", **wish)
        assert refused.code is ErrorCode.INVALID_REQUEST
        assert "converted in another way" in refused.message
    assert home.installed() == ["mine"]


def test_what_is_quantized_already_is_refused_before_its_weights_move(
    home: Home, tiny_files: dict[str, bytes]
) -> None:
    config = json.loads(tiny_files["config.json"])
    stated = config | {"quantization": {"group_size": 32, "bits": 8}}
    home.hub.add(HubRepository(REPO, tiny_files | {"config.json": json.dumps(stated).encode()}))
    refused = home.refusal(conversion=MXFP8)
    assert (refused.code, refused.message) == (
        ErrorCode.INVALID_REQUEST,
        f"{REPO} is quantized already; convert its original, or use it as it is",
    )
    assert home.hub.bytes_sent[WEIGHTS] == 0


def test_what_others_have_quantized_is_served_as_it_is(home: Home, tmp_path: Path) -> None:
    """As mlx-community publishes it."""
    folder = tiny.build(tiny.LAYOUTS["cls"], tmp_path / "quantized")
    affine4 = quantized.SCHEMES["affine4"]
    quantized.quantize(folder, lambda layer: affine4 if "layer" in layer else None)
    quantized.state(folder, affine4)
    home.hub.add(HubRepository.of_folder("mlx-community/tiny-4bit", folder))
    made = home.pull("mlx-community/tiny-4bit")
    assert (made.name, made.conversion, made.converted_from) == ("tiny-4bit", None, None)
    assert made.quantization == {"group_size": 32, "bits": 4, "mode": "affine"}
    stored = {name: record.sha256 for name, record in made.files.items()}
    files = home.hub.repositories["mlx-community/tiny-4bit"].files
    assert stored == {name: files[name].sha256 for name in stored}
    home.assert_works("tiny-4bit")


def test_too_wide_groups(home: Home) -> None:
    refused = home.refusal(conversion=Conversion(Scheme(64, 8, "affine")))
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert "--group-size" in refused.message
    sent = home.hub.bytes_sent[WEIGHTS]
    home.pull()  # with what has come
    assert home.hub.bytes_sent[WEIGHTS] == sent


def test_interrupted_form_is_continued_by_every_other(home: Home) -> None:
    home.pull(conversion=HALF)
    size = len(home.hub.repositories[REPO].content()[WEIGHTS])
    home.hub.faults[WEIGHTS] = Fault(times=1, stall_after=size // 2)
    home.hub.bytes_sent.clear()
    with home.start() as job:
        until(lambda: home.kept_bytes() >= size // 2, 30, "half of it")
        job.kill()
    # Though a form of that very commit is installed, its beginning is of use.
    home.pull(conversion=MXFP8)
    assert home.hub.bytes_sent[WEIGHTS] <= 1.02 * size
    assert home.installed() == ["tiny-fp16", "tiny-mxfp8"]
    home.assert_nothing_left()


_POINTS = points(
    "mlx_serve_worker.pull:run_confined",
    "mlx_serve_worker.downloads/Folder:remove",
)


@pytest.mark.parametrize("point", _POINTS)
def test_death_at_any_point(point: str, home: Home) -> None:
    dying = dying_at(point, home.command(AS_MXFP8))
    died = subprocess.run(dying, env=home.env, capture_output=True, timeout=50)
    assert died.returncode == -signal.SIGKILL
    until(lambda: not home.processes(), 10, "the end of every process")
    assert home.installed() in ([], ["tiny-mxfp8"])
    assert home.run(AS_MXFP8)[-1].model == "tiny-mxfp8"
    home.assert_works("tiny-mxfp8")
    home.assert_nothing_left()


def test_killed_while_it_quantizes(home: Home) -> None:
    with home.start(AS_MXFP8) as job:
        assert job.stdout is not None
        next(line for line in job.stdout if b"quantizing" in line)
        job.kill()
    until(lambda: not home.processes(), 10, "the end of every process")
    sent = home.hub.bytes_sent[WEIGHTS]
    assert home.installed() in ([], ["tiny-mxfp8"])
    assert home.run(AS_MXFP8)[-1].model == "tiny-mxfp8"
    assert home.hub.bytes_sent[WEIGHTS] == sent
    home.assert_nothing_left()


def test_two_at_once_are_one(home: Home) -> None:
    go = Fault(times=1, bytes_per_s=200_000)
    home.hub.faults[WEIGHTS] = go
    with home.start(AS_MXFP8) as first, home.start(AS_MXFP8) as second:
        outputs = [job.communicate(timeout=50)[0] for job in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    size = len(home.hub.repositories[REPO].content()[WEIGHTS])
    assert home.hub.bytes_sent[WEIGHTS] == size
    assert home.installed() == ["tiny-mxfp8"]
    assert not (home.models / "tiny" / MANIFEST_FILE).exists()
