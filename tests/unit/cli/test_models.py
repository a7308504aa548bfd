from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.models import MANIFEST_FILE, Manifest, ModelKind
from mlx_serve_gateway.cli.main import mlx_serve


def install(home: Path, name: str, **facts: Any) -> None:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    facts = {"kind": ModelKind.EMBEDDING, "architecture": "bert"} | facts
    manifest = Manifest(name=name, created_at="2020-01-01T00:00:00Z", **facts)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


def run(*arguments: str) -> int:
    code: int = mlx_serve.main(list(arguments), prog_name="mlx-serve", standalone_mode=False)
    return code


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLX_SERVE_HOME", str(tmp_path))
    return tmp_path


def test_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM", dimensions=384, size_bytes=91_000_000, dtype="float32")
    install(home, "한국어-4bit", kind=ModelKind.RERANKER, quantization={"bits": 4})
    (home / "models" / "half\n").mkdir()

    assert run("list") == 0
    out, err = capsys.readouterr()
    assert [line.split()[:-3] for line in out.splitlines()[1:]] == [
        ["MiniLM", "embedding", "91", "MB", "F32", "384"],
        ["한국어-4bit", "reranker", "0", "B", "4bit", "-"],
    ]
    assert out.splitlines()[0].split() == ["NAME", "TYPE", "SIZE", "QUANT", "DIMS", "MODIFIED"]
    assert err == "broken: half\\n: no manifest.json\n"


def test_list_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "MiniLM", dimensions=384)
    assert run("list", "--json") == 0
    (model,) = msgspec.json.decode(capsys.readouterr().out)["models"]
    assert (model["name"], model["type"], model["dimensions"]) == ("MiniLM", "embedding", 384)
    assert model.keys() >= {"model", "modified_at", "size", "digest", "details"}
    assert not any(str(home) in str(value) for value in model.values())


def test_an_empty_list_says_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "mlx-serve pull ORG/NAME" in err
