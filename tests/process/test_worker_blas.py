"""The BLAS that workers of a running server have loaded."""

import sys
from pathlib import Path

import pytest

from mlx_serve_gateway.blas.candidates import OWN
from mlx_serve_gateway.blas.libraries import installed
from tests.engine.tiny_chat import install_chat_model
from tests.process.gateways import Gateway
from tests.store import ModelStore

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS"),
]

SAY = b'{"model": "qwen2", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}'


def loaded(gateway: Gateway) -> set[Path]:
    """Of the libraries in question, by the worker of the chat model after it has computed."""
    answer = gateway.ask("POST", "/v1/chat/completions", SAY)
    assert answer.status == 200, answer
    maps = Path(f"/proc/{gateway.worker_pid('qwen2')}/maps").read_text()
    return {path for each in installed().values() if str(path := each.resolve()) in maps}


@pytest.mark.parametrize("asked", ["", *installed()])
def test_it_is_the_one_that_is_asked_for_or_else_the_fastest(
    asked: str, short_dir: Path, store: ModelStore
) -> None:
    install_chat_model(store.models_dir, "qwen2")
    with Gateway(short_dir, store, None, **{OWN: asked}) as gateway:
        found = loaded(gateway)
        expected = [path.resolve() for kind, path in installed().items() if asked in ("", kind)]
        assert len(found) == 1
        assert found <= set(expected)
