"""What a verification found is seen by a running gateway, and by ``show``, at once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.models import MANIFEST_FILE
from tests.process.gateways import Gateway, environment

pytestmark = [pytest.mark.process, pytest.mark.engine]


def card(gateway: Gateway, model: str) -> dict[str, Any]:
    answer = gateway.ask("GET", f"/v1/models/{model}")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    (listed,) = (
        each for each in gateway.ask("GET", "/v1/models").json["data"] if each["id"] == model
    )
    assert listed == found
    return found


def command(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    models = gateway.store.models_dir
    return subprocess.run(
        [sys.executable, "-P", "-m", "mlx_serve_gateway.cli.main", *arguments],
        env=environment(MLX_SERVE_HOME=str(models.parent), MLX_SERVE_MODELS_DIR=str(models)),
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_models_tell_what_installing_found(gateway: Gateway) -> None:
    found = card(gateway, "prompted")
    assert found["prompts"] == ["document", "query"]
    assert len(found["fingerprint"]) == 16
    assert found["verified"]["passed"] is True
    assert found["verified"]["dimensions_ok"] is True


def test_a_running_gateway_notices(gateway: Gateway) -> None:
    before = card(gateway, "prompted")["verified"]
    assert before["prompts_ok"] is None
    verified = command(gateway, "verify", "prompted", "--json")
    assert verified.returncode == 0, verified
    outcome = msgspec.json.decode(verified.stdout)
    assert outcome["name"] == "prompted"
    assert outcome["verified"]["prompts_ok"] is True
    assert card(gateway, "prompted")["verified"] == outcome["verified"]
    shown = msgspec.json.decode(command(gateway, "show", "prompted", "--json").stdout)
    answered = gateway.ask("POST", "/api/show", b'{"model": "prompted"}').json
    assert shown == answered
    info = shown["model_info"]
    assert info["mlx_serve.verified"] == outcome["verified"]
    assert info["mlx_serve.fingerprint"] == card(gateway, "prompted")["fingerprint"]


def test_a_damaged_model_fails_and_says_so(gateway: Gateway) -> None:
    folder: Path = gateway.store.models_dir / "raw"
    config = folder / "config.json"
    good = config.read_bytes()
    manifest = (folder / MANIFEST_FILE).read_bytes()
    config.write_bytes(good.replace(b"gelu", b"relu"))
    try:
        failed = command(gateway, "verify", "org/raw")
        assert failed.returncode == 1, failed
        assert "FAILED" in failed.stdout
        assert "config.json is not the file that was installed" in failed.stdout
        assert card(gateway, "raw")["verified"]["passed"] is False
    finally:
        config.write_bytes(good)
        (folder / MANIFEST_FILE).write_bytes(manifest)
        os.utime(folder.parent)
    assert card(gateway, "raw")["verified"]["passed"] is True


def test_a_model_that_is_not_there(gateway: Gateway) -> None:
    for name in ("verify", "show"):
        missing = command(gateway, name, "nope")
        assert missing.returncode == 1
        assert "there is no model 'nope'" in missing.stderr
        assert missing.stdout == ""
