"""Token ids of OpenAI's cl100k_base: what LangChain sends, whatever the model is."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Embed, EmbedTokens, Truncate
from mlx_serve_worker import openai_tokens
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine.models import accepted, embed, load_layout, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine

UNUSED_IDS = [100256, 100261, 100275, 100277, 2**31]


@pytest.fixture(scope="module")
def cl100k() -> tiktoken.Encoding:
    return openai_tokens._encoding()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> EncoderBackend:
    return load_layout("prompt", tmp_path_factory.mktemp("prompt"))


def from_ids(
    backend: EncoderBackend,
    tokens: Sequence[list[int]],
    truncate: Truncate = "right",
    **wishes: Any,
) -> list[Prepared | ServeError]:
    ids = [*range(len(tokens))]
    return backend.prepare(
        EmbedTokens(ids, list(tokens), "cl100k_base", "base64", truncate, **wishes)
    )


def test_the_ids_that_everybody_knows(cl100k: tiktoken.Encoding) -> None:
    assert openai_tokens.decode([15339, 1917]) == "hello world"
    assert cl100k.encode("hello world") == [15339, 1917]


def test_ids_give_the_vectors_of_their_texts(
    backend: EncoderBackend, cl100k: tiktoken.Encoding
) -> None:
    texts = [*TEXTS.values()]
    tokens = [cl100k.encode(text, disallowed_special=()) for text in texts]
    for wishes in ({}, {"prompt": "a b ", "dimensions": 5}, {"truncate": "left", "prompt": ""}):
        same = accepted(from_ids(backend, tokens, **wishes))
        expected = prepare(backend, texts, **wishes)
        assert [item.token_ids for item in same] == [item.token_ids for item in expected]
        assert [item.truncated for item in same] == [item.truncated for item in expected]
        np.testing.assert_array_equal(embed(backend, same), embed(backend, expected))


def test_a_text_cut_between_tokens_loses_half_a_character_at_most(
    cl100k: tiktoken.Encoding,
) -> None:
    text = "안녕하세요 👩‍👩‍👧 café 漢字 naïve" * 3
    ids = cl100k.encode(text)
    for at in range(len(ids) + 1):
        left, right = openai_tokens.decode(ids[:at]), openai_tokens.decode(ids[at:])
        assert isinstance(left, str)
        assert isinstance(right, str)
        assert text.startswith(left)
        assert text.endswith(right)
        assert len(text) - len(left) - len(right) <= 1


def test_bytes_that_are_no_text_do_not_fail(cl100k: tiktoken.Encoding) -> None:
    continuation = cl100k.encode_single_token(b"\x80")
    start = cl100k.encode_single_token(b"\xe2")
    assert openai_tokens.decode([continuation] * 3) == ""
    assert openai_tokens.decode([start]) == ""
    assert openai_tokens.decode([15339, continuation, 1917]) == "hello\ufffd world"


@pytest.mark.parametrize("bad", UNUSED_IDS)
def test_an_unknown_id_fails_alone_and_is_named(backend: EncoderBackend, bad: int) -> None:
    good, refused, other = from_ids(backend, [[15339], [15339, bad], [1917]])
    assert isinstance(good, Prepared)
    assert isinstance(other, Prepared)
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert str(bad) in refused.message
    assert "token_input" in refused.message


def test_where_the_package_is_missing_the_message_names_the_fix(
    backend: EncoderBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai_tokens._encoding.cache_clear()
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    for refused in from_ids(backend, [[15339], [1917]]):
        assert isinstance(refused, ServeError)
        assert refused.code is ErrorCode.UNSUPPORTED_PARAMETER
        assert "check_embedding_ctx_length=False" in refused.message
        assert "token_input" in refused.message


def test_other_ranks_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    openai_tokens._encoding.cache_clear()
    monkeypatch.setattr(openai_tokens, "_RANKS_SHA256", "0" * 64)
    refused = openai_tokens.decode([15339])
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.UNSUPPORTED_PARAMETER


_SEEN = """
import os, sys, tempfile
cache = os.path.join(tempfile.gettempdir(), "data-gym-cache")
was_there = os.path.exists(cache)
from mlx_serve_worker import openai_tokens
assert openai_tokens.decode([15339]) == "hello"
assert os.path.exists(cache) == was_there
print(sorted({"requests", "urllib3", "numpy"} & sys.modules.keys()))
"""


def test_nothing_is_written_and_no_network_library_is_loaded(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _SEEN],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout == "[]\n"
    assert [*tmp_path.iterdir()] == []


def test_texts_do_not_load_it(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from mlx_serve_common.wire import Embed
from mlx_serve_worker.backends.encoder import EncoderBackend
backend = EncoderBackend(Path(sys.argv[1]))
backend.load()
backend.prepare(Embed([1], ["a"], "float", "right"))
print("tiktoken" in sys.modules)
"""
    load_layout("mean", tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout == "False\n"


def test_the_prompt_that_is_left_out_must_leave_something(tmp_path: Path) -> None:
    # Pooling over nothing is not finite: that was a 500 for a client's mistake.
    backend = load_layout("prompt-left-out", tmp_path)
    prompt = "a " * 100
    (refused,) = backend.prepare(Embed([1], ["b"], "float", "right", prompt))
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    (empty,) = prepare(backend, [""])
    assert np.isfinite(embed(backend, [empty])).all()
