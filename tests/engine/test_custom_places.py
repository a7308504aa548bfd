"""Where custom architectures may be from, and what happens to code that does not do."""

import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker import architectures
from tests.engine import nano, tiny_decoders
from tests.engine.python import run_python

pytestmark = pytest.mark.engine


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano.EXAMPLES, tmp_path / "custom_models"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return nano.build("nano_encoder", tmp_path / "source")


def refusal(source: Path, custom: Path | None) -> str:
    with pytest.raises(ServeError) as refused:
        nano.install(source, custom)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert str(custom) not in refused.value.message
    return refused.value.message


def test_folder_that_lacks_the_file(source: Path, custom: Path, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "missing", nano.EXAMPLES.parent):
        assert "'nano_encoder' cannot be served" in refusal(source, folder)


def test_installed_model_whose_code_is_gone(source: Path, custom: Path) -> None:
    nano.install(source, custom)
    (custom / "nano_encoder.py").unlink()
    with pytest.raises(ServeError, match="custom architecture 'nano_encoder', which is gone"):
        nano.load(source, custom)


def test_code_inside_a_model_is_never_run(source: Path, custom: Path) -> None:
    for place in (source, source / "1_Pooling"):
        shutil.copy(custom / "nano_encoder.py", place / "nano_encoder.py")
    assert "cannot be served" in refusal(source, None)
    tiny_decoders.change_config(source, model_file="nano_encoder.py")
    with pytest.raises(ServeError, match="model_file"):
        nano.install(source, custom)


@pytest.mark.parametrize("model_type", ["../source/evil", "..", "a/b", "/etc/x", "nano\x00"])
def test_type_that_is_a_path(model_type: str, source: Path, custom: Path) -> None:
    tiny_decoders.change_config(source, model_type=model_type)
    assert re.search("no usable model_type|cannot be served", refusal(source, custom))


def test_type_with_other_characters(source: Path, custom: Path) -> None:
    (custom / "nano_encoder.py").rename(custom / "my_nano_2_0.py")
    tiny_decoders.change_config(source, model_type="my-nano-2.0")
    assert nano.install(source, custom).decided["architecture"] == "custom_models/my_nano_2_0.py"


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_built_in_architecture_cannot_be_replaced(
    name: str, source: Path, custom: Path, tmp_path: Path
) -> None:
    (custom / "nano_encoder.py").rename(custom / f"{name}.py")
    with pytest.raises(ServeError, match=f"custom_models/{name}.py offers '{name}'.*built in"):
        architectures.choose(name, custom)
    assert architectures.choose(name, tmp_path).implementation != "custom"
    # A worker runs what was installed, whatever came into the folder later.
    assert architectures.installed(name, "own", custom) is architectures.find(name)


def test_own_architecture_comes_before_that_of_a_library(source: Path, custom: Path) -> None:
    (custom / "nano_encoder.py").rename(custom / "lfm2.py")
    assert architectures.choose("lfm2", custom).implementation == "custom"
    assert architectures.choose("lfm2", None).implementation == "mlx_embeddings"


@pytest.mark.parametrize("changed", ["file", "folder"])
def test_file_that_others_can_change_is_not_run(changed: str, source: Path, custom: Path) -> None:
    path = custom if changed == "folder" else custom / "nano_encoder.py"
    path.chmod(path.stat().st_mode | 0o002)
    assert "others can change it" in refusal(source, custom)


# --- packages ------------------------------------------------------------------------------------


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example as an installed package, found through its entry point."""
    site = tmp_path / "site"
    info = site / "nano-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(nano.EXAMPLES / "nano_encoder.py", site / "nano_package.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nano\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mlx_serve.architectures]\nnano_encoder = nano_package\nbert = nano_package\n"
    )
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("nano_package", None)


def test_entry_point(source: Path, packaged: Path) -> None:
    manifest = nano.install(source, None)
    assert manifest.implementation == "custom"
    assert manifest.decided["architecture"] == "entry point: nano_package"
    nano.vectors(nano.load(source, None))
    with pytest.raises(ServeError, match="nano_package offers 'bert', which is built in"):
        architectures.choose("bert", None)


def test_two_that_offer_the_same(source: Path, packaged: Path, custom: Path) -> None:
    assert "more than one module offers 'nano_encoder'" in refusal(source, custom)


def test_entry_point_that_cannot_be_loaded(source: Path, packaged: Path) -> None:
    (packaged / "nano_package.py").write_text("raise RuntimeError('secret')")
    message = refusal(source, None)
    assert "nano_package cannot be loaded (RuntimeError)" in message
    assert "secret" not in message
    assert metadata.version("nano") == "1.0"


# --- code that does not do -----------------------------------------------------------------------


def test_file_that_cannot_be_loaded(source: Path, custom: Path) -> None:
    (custom / "nano_encoder.py").write_text("import secret_module_of_mine")
    message = refusal(source, custom)
    assert message.startswith("custom_models/nano_encoder.py cannot be loaded (ModuleNotFound")
    assert "secret" not in message
    assert "mlx_serve_custom_models.nano_encoder" not in sys.modules


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def parameter_name", "def other_name", "neither build and parameter_name nor Model"),
        ('"hidden_size"]', '"width"]', "config.json cannot be used by the model's code (KeyError)"),
        ("self.positions = config", "self.places_ = config", "(AttributeError)"),
        ("return self.norm(x)", "return self.norm(x)[:, 0]", "gives (1, 32) for two tokens"),
        ('removeprefix("encoder.")', 'removeprefix("no.")', "the weights lack"),
        ("return x + self.contract", "return undefined + self.contract", "(NameError)"),
    ],
)
def test_code_that_does_not_fit(
    old: str, new: str, message: str, source: Path, custom: Path
) -> None:
    path = custom / "nano_encoder.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert message in refusal(source, custom)


_IMPORTS = """
import resource, sys
from pathlib import Path
from mlx_serve_worker import architectures
before = resource.getrlimit(resource.RLIMIT_NOFILE)
architectures.choose("with_pieces", Path(sys.argv[1]))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
print("mlx_lm.utils" in sys.modules, "mlx_lm.models.base" in sys.modules)
"""


def test_pieces_of_mlx_lm_do_not_bring_all_of_it(custom: Path) -> None:
    text = (custom / "nano_decoder.py").read_text()
    lines = "from mlx_lm.models.base import BaseModelArgs\n"
    (custom / "with_pieces.py").write_text(lines + text)
    assert run_python(_IMPORTS, str(custom)) == "False True\n"


def test_worker_of_a_built_in_architecture_never_looks_for_custom_ones() -> None:
    code = (
        "import sys; from mlx_serve_worker import architectures as a;"
        " a.installed('bert', 'own', None);"
        " print(*({'importlib.metadata', 'mlx_serve_worker.custom_models'} & sys.modules.keys()))"
    )
    assert run_python(code) == "\n"
