"""Whose key opens what, and that it is told to nobody."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_serve_gateway.cli.exit_codes import CommandFailed
from mlx_serve_gateway.cli.remote.target import chosen_gateway
from tests.process.ctl.conftest import Ctl
from tests.process.ctl.relay import Relay
from tests.process.gateways import Gateway
from tests.process.ollama.asking import KEY

pytestmark = pytest.mark.process


def test_a_stranger_is_told_what_is_missing(stranger: Ctl) -> None:
    status = stranger.run("status")
    assert status.returncode == 0
    assert status.stdout.startswith("mlx-serve ")
    assert "MLX_SERVE_ADMIN_KEY" in status.stderr
    for refused in (stranger.run("ps"), stranger.run("load", "작은-모델"), stranger.run("events")):
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "mlx-serve-ctl sends the key of MLX_SERVE_ADMIN_KEY or --key-file" in refused.stderr
    assert stranger.run("models").returncode == 0  # these are for everybody


def test_which_gateway_can_be_said_before_the_command(stranger: Ctl, gateway: Gateway) -> None:
    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-P", "-m", "mlx_serve_gateway.cli.ctl"]
        return subprocess.run(
            [*program, *arguments], env=stranger.env, capture_output=True, text=True, timeout=30
        )

    here, nowhere = f"http://127.0.0.1:{gateway.port}", "http://127.0.0.1:1"
    assert "작은-모델" in ran("--url", here, "models").stdout
    assert ran("--url", nowhere, "models", "--url", here).returncode == 0
    assert ran("--url", here, "models", "--url", nowhere).returncode == 3
    wrong = ran("--url", here, "--key", "no key", "models")
    assert (wrong.returncode, wrong.stdout) == (64, "")


def test_a_gateway_without_tls_is_told(ctl: Ctl, gateway: Gateway) -> None:
    told = ctl.run("status", "--url", f"https://127.0.0.1:{gateway.port}")
    assert (told.returncode, told.stdout) == (1, "")
    assert "is it http://?" in told.stderr
    assert "_ssl.c" not in told.stderr


def test_a_wrong_key_is_refused(stranger: Ctl) -> None:
    wrong = stranger.run("ps", "--key", "wrong-battery")
    assert wrong.returncode == 1
    assert "is not the server's admin key" in wrong.stderr
    assert "server.admin_key" in wrong.stderr
    assert "wrong-battery" not in wrong.stdout + wrong.stderr


@pytest.mark.parametrize("how", ["environment", "file", "option"])
def test_the_right_key_opens(stranger: Ctl, tmp_path: Path, how: str) -> None:
    arguments: tuple[str, ...] = ()
    if how == "environment":
        stranger.env["MLX_SERVE_ADMIN_KEY"] = KEY
    elif how == "file":
        (tmp_path / "key").write_text(f"{KEY}\n")
        (tmp_path / "key").chmod(0o600)
        stranger.env["MLX_SERVE_ADMIN_KEY"] = "the-file-goes-first"
        arguments = ("--key-file", str(tmp_path / "key"))
    else:
        arguments = ("--key", KEY)
    loaded = stranger.run("load", "작은-모델", *arguments)
    assert (loaded.returncode, loaded.stdout) == (0, "작은-모델: ready\n")
    assert stranger.run("ps", *arguments).stdout.splitlines()[1].startswith("작은-모델  embedding")
    assert loaded.stderr == ""


def test_a_key_that_others_can_read_is_told(stranger: Ctl, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    shown = stranger.run("models", "--key-file", str(tmp_path / "key"))
    assert shown.returncode == 0
    assert "chmod 600" in shown.stderr
    assert KEY not in shown.stderr


@pytest.mark.parametrize("key", ["short", "has a space", "two\r\nlines: x", "한국어-열쇠입니다"])
def test_what_cannot_be_a_key_is_not_sent(stranger: Ctl, tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_bytes(key.encode())
    for arguments in (("--key", key), ("--key-file", str(tmp_path / "key"))):
        refused = stranger.run("ps", *arguments)
        assert refused.returncode == 64
        assert "8 to 512 printable characters" in refused.stderr
        assert key not in refused.stderr
    assert stranger.run("ps", "--key-file", str(tmp_path / "none")).returncode == 64
    assert stranger.run("ps", "--key", KEY, "--key-file", "x").returncode == 64


def test_the_configured_key_is_for_the_configured_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_SERVE_HOME", str(tmp_path))
    monkeypatch.delenv("MLX_SERVE_ADMIN_KEY", raising=False)
    file = tmp_path / "config.yaml"
    file.write_text(f"server: {{port: 1234, admin_key: {KEY}}}\n")
    file.chmod(0o600)
    nothing = {"key": None, "key_file": None, "config_file": None}
    own = chosen_gateway(url=None, **nothing)
    assert (own.url, own.key) == ("http://127.0.0.1:1234", KEY)
    assert KEY not in repr(own)
    assert chosen_gateway(url="http://elsewhere.example", **nothing).key is None
    file.write_text("server: {prt: 1}\n")
    with pytest.raises(CommandFailed):
        chosen_gateway(url=None, **nothing)
    assert chosen_gateway(url="http://127.0.0.1:1", **nothing).key is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its secret key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(file), "-out", f"{file}.crt",
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


def test_over_https(gateway: Gateway, certificate: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Relay(gateway.port, context) as relay:
        stranger = Ctl(tmp_path, relay.url)
        untrusted = stranger.run("status", "--key", KEY)
        assert untrusted.returncode == 1
        assert "its certificate is not trusted: self" in untrusted.stderr
        assert "SSL_CERT_FILE" in untrusted.stderr
        stranger.env["SSL_CERT_FILE"] = f"{certificate}.crt"
        loaded = stranger.run("load", "작은-모델", "--key", KEY)
        assert (loaded.returncode, loaded.stderr) == (0, "")


def test_an_address_with_a_password_is_not_repeated(gateway: Gateway, tmp_path: Path) -> None:
    refused = Ctl(tmp_path, f"http://me:secret@127.0.0.1:{gateway.port}").run("ps")
    assert refused.returncode == 64
    assert "secret" not in refused.stderr
