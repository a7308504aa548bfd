"""``server.control_plane``: what is shut to HTTP clients is not shut to our own commands."""

import http.client
from typing import Any

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine, embed
from tests.waiting import until

pytestmark = pytest.mark.process

KEY = "correct-horse"


def ask(port: int, method: str, path: str, key: str | None = None, **body: Any) -> tuple[int, str]:
    """Status and code, as a client on this machine."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, msgspec.json.encode(body) if body else None, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status == 200:
        return 200, ""
    told = msgspec.json.decode(content)
    return response.status, told.get("code") or told["error"]["code"]


def configured(cli: CommandLine, port: int, control_plane: str) -> None:
    file = cli.home / "config.yaml"
    file.write_text(
        f"server: {{port: {port}, control_plane: {control_plane}, admin_key: {KEY}}}\n"
        "models: {auto_download: false}\n"
    )
    file.chmod(0o600)


def assert_commands_work(cli: CommandLine, port: int, model: str) -> None:
    """All that a person does, on the machine of the server and without setting anything up."""
    cli.install_fake(model)
    cli.env.pop("MLX_SERVE_ADMIN_KEY", None)
    for arguments in (("status",), ("load", model), ("pin", model), ("unpin", model)):
        done = cli.run(*arguments, program="ctl")
        assert done.returncode == 0, done
    shown = cli.run("status", "--json")
    (seen,) = msgspec.json.decode(shown.stdout)["instances"]
    assert model in {worker["model"] for worker in seen["health"]["workers"]}
    assert model in cli.run("ps").stdout
    listed = cli.run("ps", "--json")
    assert [each["name"] for each in msgspec.json.decode(listed.stdout)["models"]] == [model]
    assert model in cli.run("ps", program="ctl").stdout
    assert cli.run("remove", model).returncode == 0
    assert embed(port, model, "text")[0] == 404
    own_key = cli.record(port)["key"]
    for told in (shown, listed, cli.run("doctor", "--offline", "--json"), cli.run("logs")):
        assert own_key not in told.stdout + told.stderr


@pytest.mark.parametrize("control_plane", ["loopback", "key", "off"])
def test_the_commands_of_this_machine_work(
    cli: CommandLine, free_port: int, control_plane: str
) -> None:
    configured(cli, free_port, control_plane)
    cli.start("--port", str(free_port))
    assert_commands_work(cli, free_port, "tiny")


def test_the_key_may_be_known_to_the_server_alone(cli: CommandLine) -> None:
    cli.env |= {"MLX_SERVE_ADMIN_KEY": KEY, "MLX_SERVE_CONTROL_PLANE": "key"}
    port = cli.start()
    del cli.env["MLX_SERVE_ADMIN_KEY"], cli.env["MLX_SERVE_CONTROL_PLANE"]
    cli.env["MLX_SERVE_PORT"] = str(port)
    assert_commands_work(cli, port, "tiny")


def test_a_reload_changes_who_may(cli: CommandLine, free_port: int) -> None:
    port = free_port
    cli.install_fake("tiny")
    configured(cli, port, "loopback")
    cli.start("--port", str(port))
    assert ask(port, "POST", "/admin/load", model="tiny") == (200, "")

    configured(cli, port, "key")
    assert cli.run("reload", program="ctl").returncode == 0
    assert ask(port, "GET", "/metrics") == (401, "invalid_admin_key")
    assert ask(port, "POST", "/admin/unload", model="tiny") == (401, "invalid_admin_key")
    assert ask(port, "POST", "/admin/unload", KEY, model="tiny") == (200, "")
    assert embed(port, "tiny", "text")[0] == 200

    configured(cli, port, "off")
    assert cli.run("reload", program="ctl").returncode == 0
    assert ask(port, "GET", "/metrics") == (200, "")
    for key in (None, KEY):
        assert ask(port, "DELETE", "/api/delete", key, model="tiny") == (403, "control_plane_off")
    assert embed(port, "tiny", "text")[0] == 200


def test_key_without_a_key_is_a_mistake_of_the_configuration(cli: CommandLine) -> None:
    (cli.home / "config.yaml").write_text("server:\n  control_plane: key\n")
    refused = cli.run("start")
    assert refused.returncode == 78
    assert "config.yaml:2: server.control_plane: key needs one" in refused.stderr
    assert "admin.key" in refused.stderr
    assert cli.run("doctor", "--offline").returncode != 0


def test_what_opens_a_server_is_for_its_account_alone(cli: CommandLine) -> None:
    first = cli.start()
    file = cli.home / f"mlx-serve-{first}.pid"
    assert file.stat().st_mode & 0o777 == 0o600
    key = cli.record(first)["key"]
    assert len(key) >= 32
    second = cli.start()
    assert cli.record(second)["key"] != key
    until(lambda: ask(second, "GET", "/health")[0] == 200)
