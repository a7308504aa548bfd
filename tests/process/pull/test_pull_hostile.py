"""A stranger's repository: refused for what it lists or says, before it can do anything."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import REPO, WEIGHTS, Home

pytestmark = [pytest.mark.process, pytest.mark.engine]

HASH, SHA256 = "0" * 40, "0" * 64
NAMES = [
    "../../x", "../x.json", "/tmp/x", "..\\x", "a/./b", "a//b", "a/../b.json", "a/.GIT/config",
    ".git/hooks/post-checkout", "CON", "nul.json", "dir/com1.txt", "C:\\x", "C:x.json", "a\0b",
    "new\nline", "x" * 300, "a/" * 600 + "b", "", "~/../x", "esc\x1b[2J",
]  # fmt: skip


def listed(name: str, size: int = 10, **more: Any) -> dict[str, Any]:
    return {"rfilename": name, "size": size, "blobId": HASH, **more}


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_climb_or_mean_something_else(name: str, home: Home, tmp_path: Path) -> None:
    home.hub.repositories[REPO].extra_siblings = [listed(name)]
    refused = home.refusal()
    assert refused.code is ErrorCode.UNSAFE_MODEL
    assert refused.message.isprintable()
    assert home.hub.file_bytes() == 0
    assert all(path.is_relative_to(home.models / ".locks") for path in files_below(tmp_path))


def test_odd_but_harmless_names_are_nobodys_business(home: Home) -> None:
    names = [
        "한국어 설명.md",
        "images/a b (1).png",
        ".gitattributes",
        "README.md",
        "readme.md",
        "...x",
    ]
    home.hub.repositories[REPO].extra_siblings = [listed(name) for name in names]
    home.pull()


@pytest.mark.parametrize(
    "names",
    [
        [WEIGHTS, WEIGHTS],
        ["Config.json"],
        ["Tokenizer.json"],
        ["a\u0301.json", "á.json"],
        [f"{number}.txt" for number in range(5000)],
    ],
    ids=lambda names: names[0],
)
def test_files_that_could_be_mistaken_and_too_many(names: list[str], home: Home) -> None:
    home.hub.repositories[REPO].extra_siblings = [listed(name) for name in names]
    refused = home.refusal()
    assert refused.code is ErrorCode.UNSAFE_MODEL
    assert home.hub.file_bytes() == 0
    home.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vocab.json", 2 * 1024**3),
        ("tokenizer.json", 300 * 1024**2),
        ("model-00001-of-00002.safetensors", 10 * 1000**4),
        (WEIGHTS, 101 * 1024**3),
    ],
)
def test_claimed_sizes_have_limits(
    name: str, size: int, home: Home, tiny_files: dict[str, bytes]
) -> None:
    left_out = {name, WEIGHTS}
    others = {each: content for each, content in tiny_files.items() if each not in left_out}
    repository = home.hub.add(HubRepository(REPO, others))
    claims = {WEIGHTS: 1000, name: size} if name.endswith(".json") else {name: size}
    repository.extra_siblings = [listed(each, claimed) for each, claimed in claims.items()]
    refused = home.refusal()
    assert refused.code is ErrorCode.UNSAFE_MODEL
    assert str(size) in refused.message
    assert home.hub.file_bytes() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1}, {"size": "big"}, {"size": None}, {"blobId": "../x"}, {"blobId": None},
        {"lfs": {"sha256": "../../x", "size": 1}}, {"lfs": {"sha256": SHA256, "size": -5}},
        {"rfilename": None},
    ],
    ids=repr,
)  # fmt: skip
def test_listing_that_makes_no_sense(change: dict[str, Any], home: Home) -> None:
    home.hub.repositories[REPO].extra_siblings = [listed("x.json") | change]
    assert home.refusal().code is ErrorCode.UPSTREAM_ERROR
    assert home.hub.file_bytes() == 0


@pytest.mark.parametrize(
    ("weights", "code", "words"),
    [
        ("pytorch_model.bin", ErrorCode.UNSAFE_MODEL, "pytorch_model.bin"),
        ("model.pkl", ErrorCode.UNSAFE_MODEL, "model.pkl"),
        ("weights.npz", ErrorCode.UNSAFE_MODEL, "weights.npz"),
        ("model.gguf", ErrorCode.INVALID_MODEL, "GGUF"),
        ("README.md", ErrorCode.INVALID_MODEL, "no weights"),
        ("onnx/model.safetensors", ErrorCode.INVALID_MODEL, "no weights"),
    ],
)
def test_no_weights_that_are_only_numbers(
    weights: str, code: ErrorCode, words: str, home: Home, tiny_files: dict[str, bytes]
) -> None:
    others = {
        name: content
        for name, content in tiny_files.items()
        if name not in (WEIGHTS, "modules.json")
    }
    home.hub.add(HubRepository(REPO, others | {weights: b"x" * 100}))
    refused = home.refusal()
    assert refused.code is code
    assert words in refused.message
    assert home.hub.file_bytes() == 0
    home.assert_nothing_left()


def nested(depth: int, innermost: bytes) -> bytes:
    return b'{"a":' * depth + innermost + b"}" * depth


def changed(files: dict[str, bytes], name: str, **changes: Any) -> dict[str, bytes]:
    return files | {name: json.dumps(json.loads(files[name]) | changes).encode()}


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Evil"}}, ErrorCode.UNSAFE_MODEL),
        ("config.json", {"model_file": "evil.py"}, ErrorCode.UNSAFE_MODEL),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T"]}}, ErrorCode.UNSAFE_MODEL),
        ("config.json", {"model_type": "../../x"}, ErrorCode.INVALID_MODEL),
        ("config.json", {"model_type": "no-such-thing"}, ErrorCode.INVALID_MODEL),
    ],
)
def test_settings_are_read_before_the_weights_move(
    name: str,
    changes: dict[str, Any],
    code: ErrorCode,
    home: Home,
    tiny_files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    canary = tmp_path / "canary"
    evil = f"open({str(canary)!r}, 'w')".encode()
    files = changed(tiny_files, name, **changes) | {"evil.py": evil, "modeling_x.py": evil}
    home.hub.add(HubRepository(REPO, files))
    assert home.refusal().code is code
    assert home.hub.bytes_sent[WEIGHTS] == home.hub.bytes_sent["evil.py"] == 0
    assert not canary.exists()
    home.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (WEIGHTS, b"\x80\x04pickle" * 100),
        (WEIGHTS, (2**60).to_bytes(8, "little") + b"{}"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b"[" * 10**7),
        ("config.json", b"{"),
        ("config.json", b'\xef\xbb\xbf{"model_type": "bert"}'),
        ("config.json", b'{"model_type": "bert", "layer_norm_eps": NaN}'),
        ("modules.json", b'[{"type": "x", "path": "../../etc"}]'),
        ("modules.json", b'{"a": 1}'),
        ("1_Pooling/config.json", b"[]"),
    ],
)
def test_content_that_is_no_model(
    name: str, content: bytes, home: Home, tiny_files: dict[str, bytes]
) -> None:
    home.hub.add(HubRepository(REPO, tiny_files | {name: content}))
    assert home.refusal().code is ErrorCode.INVALID_MODEL
    assert home.installed() == []
    home.assert_nothing_left()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**18},
        {"num_attention_heads": 0},
        {"hidden_act": "os.system"},
        {"quantization": {"bits": 0, "group_size": 0}},
    ],
    ids=repr,
)
def test_settings_of_no_model(
    settings: dict[str, Any], home: Home, tiny_files: dict[str, bytes]
) -> None:
    home.hub.add(HubRepository(REPO, changed(tiny_files, "config.json", **settings)))
    assert home.refusal().code is ErrorCode.INVALID_MODEL
    home.assert_nothing_left()


@pytest.mark.parametrize("depth", [1, 300, 600])
def test_code_is_found_however_deep_it_is_named(
    depth: int, home: Home, tiny_files: dict[str, bytes]
) -> None:
    code = {"extra.json": nested(depth, b'{"auto_map":{"AutoModel":"evil.Evil"}}')}
    home.hub.add(HubRepository(REPO, tiny_files | code))
    assert home.refusal().code is ErrorCode.UNSAFE_MODEL
    home.assert_nothing_left()
    home.hub.add(HubRepository(REPO, tiny_files | {"extra.json": nested(depth, b"1")}))
    home.pull()


def test_index_that_names_what_is_not_there(home: Home, tiny_files: dict[str, bytes]) -> None:
    others = {name: content for name, content in tiny_files.items() if name != WEIGHTS}
    for named in ("../../../etc/passwd", "absent.safetensors", "config.json"):
        index = json.dumps({"weight_map": {"a": named}}).encode()
        more = {"model.safetensors.index.json": index, "x.safetensors": b"x" * 100}
        home.hub.add(HubRepository(REPO, others | more))
        assert home.refusal().code is ErrorCode.INVALID_MODEL
        assert home.hub.bytes_sent["x.safetensors"] == 0
        home.assert_nothing_left()


def test_process_that_reads_the_files_may_break(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a library with a hole in it would: by a signal, or by never ending."""
    from mlx_serve_worker import confined, pull

    breaking = tmp_path / "breaking.py"
    for script, words in (
        ("import os; os.abort()", "-6"),
        ("raise SystemExit(3)", "3"),
        ('print(\'{"status":"verifying"}\', flush=True); import os; os._exit(0)', "0"),
        ("print('nonsense')", "0"),
        ("import time; time.sleep(60)", "too long"),
    ):
        breaking.write_text(script)
        with monkeypatch.context() as patch:
            patch.setattr(confined, "_JOB", (sys.executable, str(breaking)))
            patch.setattr(pull, "_APPRAISAL_LIMIT_S", 1.0)
            refused = home.refusal()
        assert refused.code is ErrorCode.INVALID_MODEL
        assert words in refused.message
        home.assert_nothing_left()
    home.pull()
