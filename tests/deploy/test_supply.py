"""What is installed with the product: audited, and listed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


# --- the audit -----------------------------------------------------------------------------------


def test_what_is_locked_is_not_known_to_be_unsafe(script: Any) -> None:
    assert script("audit").below_floors() == []


@pytest.mark.parametrize(
    ("name", "version"), [("h11", "0.14.0"), ("starlette", "1.0"), ("jinja2", "3.1.5")]
)
def test_an_unsafe_pin_is_told(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    audit = script("audit")
    lines = audit.RUNTIME.read_text("utf-8").splitlines(keepends=True)
    old = tmp_path / "requirements.lock"
    old.write_text(
        "".join(
            f"{name}=={version} \\\n" if each.startswith(f"{name}==") else each for each in lines
        )
    )
    monkeypatch.setattr(audit, "RUNTIME", old)
    (told,) = audit.below_floors()
    assert told.startswith(f"requirements.lock: {name} {version} is below ")


def test_a_declaration_that_lets_by_less_is_told(script: Any) -> None:
    let_by = script("audit")._let_by
    assert let_by(["h11>=0.16,<1", "Jinja2>=3.1.6", "click"]) == []
    assert len(let_by(["h11", "jinja2>=3.1,<4", "huggingface_hub<3", "psutil==7.0"])) == 4


def entry(name: str, *holes: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": hole, "fix_versions": ["1.1"]} for hole in holes],
    }


@pytest.mark.parametrize(
    ("report", "code", "said"),
    [
        ({"dependencies": [entry("a"), entry("b")]}, 0, ""),
        ({"dependencies": [entry("a", "CVE-1")]}, 1, "a 1.0: CVE-1, mended in 1.1"),
        # That is what it writes where it has no network, and its exit code is 0.
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, 3, "nothing is known"),
        ({"dependencies": [entry("a", "CVE-1"), {"name": "b", "skip_reason": "?"}]}, 1, "CVE-1"),
        ([], 3, "nothing is known"),
        (None, 3, "nothing is known"),
    ],
)
def test_what_is_made_of_a_report(
    script: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    report: Any,
    code: int,
    said: str,
) -> None:
    file = tmp_path / "report.json"
    if report is not None:
        file.write_text(json.dumps(report))
    assert script("audit").advisories(file) == code
    assert said in capsys.readouterr().out


# --- the list ------------------------------------------------------------------------------------


def test_everything_that_is_locked_is_listed(script: Any) -> None:
    sbom = script("sbom")
    written = sbom.bom("1.2.3")
    assert json.dumps(written) == json.dumps(sbom.bom("1.2.3"))
    pins = [line.split()[0] for line in sbom.RUNTIME.read_text().splitlines() if line[:1].isalpha()]
    listed = {each["purl"]: each for each in written["components"]}
    assert sorted(listed) == sorted("pkg:pypi/" + pin.replace("==", "@") for pin in pins)
    assert all(each["externalReferences"] for each in listed.values())
    hashes = sbom.RUNTIME.read_text().count("--hash=")
    assert sum(len(each["externalReferences"]) for each in listed.values()) == hashes
    needs = {each["ref"]: each["dependsOn"] for each in written["dependencies"]}
    assert needs.keys() == listed.keys() | {"pkg:pypi/mlx-serve-gateway@1.2.3"}
    used = {ref for several in needs.values() for ref in several}
    assert used == set(listed), "nothing is there for nobody"
    direct = needs["pkg:pypi/mlx-serve-gateway@1.2.3"]
    assert any(ref.startswith("pkg:pypi/h11@") for ref in direct)


def test_what_is_installed_and_not_listed_is_told(script: Any) -> None:
    sbom = script("sbom")
    written = sbom.bom("1.2.3")
    h11 = next(each for each in written["components"] if each["name"] == "h11")
    fine = {("h11", h11["version"]), ("pip", "26.0"), ("mlx-serve-gateway", "1.2.3")}
    assert sbom.differences(written, fine) == []
    assert sbom.differences(written, {("evil", "1.0")}) == ["evil 1.0 is installed and not listed"]
    written["components"].remove(h11)
    assert len(sbom.differences(written, fine)) == 2


def test_the_scripts_run_as_they_are_called() -> None:
    for arguments in (["audit.py", "floors"], ["sbom.py", "write", "1.2.3"]):
        command = [sys.executable, "-E", str(SCRIPTS / arguments[0]), *arguments[1:]]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
