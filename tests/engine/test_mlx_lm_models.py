"""mlx-lm's model classes, without what importing mlx-lm brings along."""

import resource
from pathlib import Path

import pytest

from mlx_serve_worker.bare_packages import bare_package
from tests.engine import tiny_decoders
from tests.engine.models import manifested
from tests.engine.python import run_python

pytestmark = pytest.mark.engine

_IMPORTS = """
import resource, sys
from pathlib import Path
from mlx_serve_common.wire import Embed
from mlx_serve_worker.backends.encoder import EncoderBackend
before = resource.getrlimit(resource.RLIMIT_NOFILE)
backend = EncoderBackend(Path(sys.argv[1]))
backend.load()
assert None not in backend.forward(backend.prepare(Embed([1], ["a"], "base64", "right")))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
heavy = {"transformers", "mlx_lm.utils", "mlx_embeddings", "huggingface_hub", "torch", "numpy"}
print(sorted(heavy & sys.modules.keys()), "mlx_lm.models" in sys.modules)
"""


def test_worker_imports_the_model_class_and_nothing_heavy(tmp_path: Path) -> None:
    manifested(tiny_decoders.build(tiny_decoders.LAYOUTS["qwen3"], tmp_path))
    # Importing mlx_lm itself would lower the limit.
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 2048
    assert run_python(_IMPORTS, str(tmp_path)) == "[] True\n"


_COMPILED = """
import sys
from pathlib import Path
import mlx.core as mx
from mlx_serve_worker import device
from mlx_serve_worker.backends.encoder import EncoderBackend
EncoderBackend(Path(sys.argv[1])).load()
calls = []
compiled = mx.compile(lambda x: (calls.append(1), x + 1)[1])
compiled(mx.array(1.0)), compiled(mx.array(2.0))
print(len(calls) == 2 or device.current().fuses)
"""


def test_nothing_is_compiled_on_a_cpu(tmp_path: Path) -> None:
    manifested(tiny_decoders.build(tiny_decoders.LAYOUTS["qwen3"], tmp_path))
    assert run_python(_COMPILED, str(tmp_path)) == "True\n"


_LATER = """
import sys
from mlx_serve_worker.mlx_lm_models import mlx_lm_model
early = mlx_lm_model("qwen3")
assert "mlx_lm.utils" not in sys.modules
import mlx_lm
assert callable(mlx_lm.load)
assert mlx_lm.models.qwen3 is early
from mlx_lm.models import llama
print("mlx_lm.utils" in sys.modules)
"""


def test_ordinary_import_afterwards_finds_everything() -> None:
    assert run_python(_LATER) == "True\n"


def test_package_that_is_not_installed() -> None:
    with pytest.raises(ModuleNotFoundError, match="mlx_serve_nothing"):
        bare_package("mlx_serve_nothing")
