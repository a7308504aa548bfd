from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from mlx_serve_common.models import (
    MANIFEST_FILE,
    Dense,
    Manifest,
    ModelKind,
    Normalize,
    Parity,
    Pooling,
    Verified,
)
from mlx_serve_gateway.cli.exit_codes import CommandFailed
from mlx_serve_gateway.cli.main import mlx_serve

VERIFIED = Verified(
    when="2020-01-01T00:00:00Z",
    device="cpu",
    passed=True,
    finite=True,
    batch_max_diff=2e-7,
    dimensions_ok=True,
    prompts_ok=True,
    parity=Parity(reference="sentence-transformers 6.2.0", max_diff=1e-6, min_cosine=0.9999999),
)
FACTS: dict[str, Any] = {
    "dimensions": 384,
    "max_tokens": 256,
    "source": "org/MiniLM",
    "revision": "c0ffee",
    "dtype": "float32",
    "size_bytes": 92_000_000,
    "weights_bytes": 91_000_000,
    "pipeline": [
        Pooling(["mean", "cls"], include_prompt=False),
        Dense("2_Dense", "tanh"),
        Normalize(),
    ],
    "prompts": {"query": "Represent this: " + "x" * 100, "document": ""},
    "default_prompt": "query",
    "decided": {"pooling": "1_Pooling/config.json", "kind": "modules.json"},
    "verified": VERIFIED,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLX_SERVE_HOME", str(tmp_path))
    return tmp_path


def install(home: Path, name: str, **facts: Any) -> None:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    facts = {"kind": ModelKind.EMBEDDING, "architecture": "bert"} | facts
    manifest = Manifest(name=name, created_at="2020-01-01T00:00:00Z", **facts)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


def run(*arguments: str) -> int:
    code: int = mlx_serve.main(list(arguments), prog_name="mlx-serve", standalone_mode=False)
    return code


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The lines of each fact; they have to begin in one column."""
    facts: dict[str, list[str]] = {}
    name = ""
    lines = capsys.readouterr().out.splitlines()
    column = max(lines[0].index("MiniLM"), 0)
    for line in lines:
        assert line[column - 1] == " "
        name = line[:column].strip() or name
        facts.setdefault(name, []).append(line[column:])
    return facts


def test_everything_that_is_known(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM", **FACTS)
    assert run("show", "ORG/minilm:latest") == 0
    facts = shown(capsys)
    assert facts["type"] == ["embedding"]
    assert facts["source"] == ["org/MiniLM"]
    assert facts["revision"] == ["c0ffee"]
    assert facts["weights"] == ["91 MB, float32"]
    assert facts["pipeline"] == ["mean + cls pooling without the prompt, dense (tanh), normalize"]
    assert facts["prompts"][0] == "document: ''"
    assert facts["prompts"][1].startswith("query (default): 'Represent this: ")
    assert facts["prompts"][1].endswith("x…'")
    assert len(facts["fingerprint"][0]) == 16
    assert facts["decided"] == ["kind: modules.json", "pooling: 1_Pooling/config.json"]
    assert facts["path"] == [str(home / "models" / "MiniLM")]


def test_verification(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM", **FACTS)
    run("show", "MiniLM")
    lines = shown(capsys)["verified"]
    assert lines[0].startswith("passed on cpu, ")
    assert "finite: yes" in lines
    assert "alone or in a batch: differs by 2.0e-07 at most" in lines
    assert "sentence-transformers 6.2.0: differs by 1.0e-06 at most" in lines[-1]
    assert "least cosine 0.9999999" in lines[-1]


def test_what_failed_and_what_was_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verified = msgspec.structs.replace(
        VERIFIED,
        passed=False,
        problems=["its output is not finite"],
        finite=False,
        parity=None,
        not_checked=["parity: sentence-transformers is not installed"],
    )
    install(home, "MiniLM", **(FACTS | {"verified": verified}))
    run("show", "MiniLM")
    lines = shown(capsys)["verified"]
    assert lines[0].startswith("FAILED on cpu")
    assert lines[1:3] == ["its output is not finite", "finite: NO"]
    assert lines[-1] == "not checked: parity: sentence-transformers is not installed"


def test_a_reranker(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parity = Parity(reference="transformers 5.0.0", max_diff=1e-6, same_order=True)
    verified = msgspec.structs.replace(VERIFIED, dimensions_ok=None, prompts_ok=None, parity=parity)
    install(
        home,
        "MiniLM",
        kind=ModelKind.RERANKER,
        quantization={"bits": 8, "group_size": 64},
        verified=verified,
    )
    run("show", "MiniLM")
    facts = shown(capsys)
    assert facts["weights"] == ["0 B, quantized: bits 8, group_size 64"]
    assert "same order: yes" in facts["verified"][-1]
    assert not facts.keys() & {"fingerprint", "dimensions", "prompts", "pipeline"}


def test_never_verified(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM")
    run("show", "MiniLM")
    assert shown(capsys)["verified"] == ["no; `mlx-serve verify` does it"]


def test_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM", **FACTS)
    assert run("show", "MiniLM", "--json") == 0
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert shown["capabilities"] == ["embedding"]
    info = shown["model_info"]
    assert info["general.basename"] == "MiniLM"
    assert info["mlx_serve.verified"]["parity"]["min_cosine"] == 0.9999999
    assert info["mlx_serve.pipeline"][0] == {
        "step": "pooling", "modes": ["mean", "cls"], "include_prompt": False,
    }  # fmt: skip


def test_text_of_a_model_cannot_steer_the_terminal(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(home, "MiniLM", source="org/\x1b[2J\nx", prompts={"\x1b[31m": "\x1b]0;x\x07"})
    run("show", "MiniLM")
    out = capsys.readouterr().out
    assert not any(ord(character) < 32 and character != "\n" for character in out)


def test_broken_and_unknown_models(home: Path) -> None:
    (home / "models/half").mkdir(parents=True)
    with pytest.raises(CommandFailed, match=r"no manifest\.json"):
        run("show", "half")
    with pytest.raises(CommandFailed, match="mlx-serve list"):
        run("show", "nope\x1b[31m")


def test_lines_fit_a_terminal(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(home, "MiniLM", **FACTS)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    run("show", "MiniLM")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
