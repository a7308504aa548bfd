"""What is made from the code is up to date, and what is shown in the documents is right."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from mlx_serve_common.config_layers import load_config
from mlx_serve_gateway.cli.checks.table import CHECKS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONFIGURATION = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def documents() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documents", ROOT / "scripts/documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documents_are_as_the_code_is(
    documents: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert documents.main(["--check"]) == 0, capsys.readouterr().out


@pytest.fixture
def copy(documents: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in documents.documents():
        (tmp_path / name).write_bytes((DOCS / name).read_bytes())
    monkeypatch.setattr(documents, "DOCS", tmp_path)
    documents.main([])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("cli.md", "Stop the server"),
        ("configuration.md", "| `8000` |"),
        ("config.example.yaml", "# port: 8000"),
        ("config.schema.json", '"default": 8000'),
        ("openapi.json", '"/v1/embeddings"'),
    ],
)
def test_a_change_of_the_document_alone_is_found(
    documents: ModuleType, copy: Path, name: str, generated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    right = (copy / name).read_text()
    assert generated in right
    (copy / name).write_text(right.replace(generated, "something else", 1))
    assert documents.main(["--check"]) == 1
    told = capsys.readouterr()
    assert "something else" in told.out
    assert f"docs/{name}" in told.out
    assert "run scripts/generate" in told.err
    assert documents.main([]) == 0
    assert (copy / name).read_text() == right


def test_a_change_of_the_code_alone_is_found(
    documents: ModuleType, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents.mlx_serve.commands["stop"], "help", "Do something else.")
    monkeypatch.setattr(documents, "RELOADABLE", frozenset())
    assert documents.main(["--check"]) == 1
    assert documents.main([]) == 0
    assert "Do something else." in (copy / "cli.md").read_text()
    assert "↻" not in (copy / "configuration.md").read_text().partition("begin -->")[2]


def test_what_a_person_wrote_stays(documents: ModuleType, copy: Path) -> None:
    text = (copy / "cli.md").read_text()
    (copy / "cli.md").write_text(f"Mine.\n{text}Mine too.\n")
    assert documents.main(["--check"]) == 0
    (copy / "cli.md").write_text("without marks")
    with pytest.raises(SystemExit, match="are missing"):
        documents.main([])


EXAMPLES = [
    (path, text)
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
    for text in CONFIGURATION.findall(path.read_text("utf-8"))
]


@pytest.mark.parametrize(("path", "text"), EXAMPLES, ids=[path.name for path, _ in EXAMPLES])
def test_a_shown_configuration_is_valid(path: Path, text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, "utf-8")
    file.chmod(0o600)
    loaded = load_config(tmp_path, environ={}, file=file)
    assert loaded.warnings == ()
    assert set(loaded.origins.values()) != {"default"}


def test_every_check_of_the_doctor_is_explained() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    assert [name for name in CHECKS if f"`{name}`" not in text] == []
