"""``config``: what is written, what is in force and why, what is refused and where."""

from pathlib import Path

import msgspec
import pytest

from mlx_serve_common.config_schema import config_schema
from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process


def written(cli: CommandLine, text: str, mode: int = 0o600) -> Path:
    path = cli.home / "config.yaml"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_the_file_to_begin_with(cli: CommandLine) -> None:
    file = cli.home / "config.yaml"
    made = cli.run("config", "init")
    assert (made.returncode, made.stdout, made.stderr) == (0, f"wrote {file}\n", "")
    assert file.stat().st_mode & 0o777 == 0o600
    schema = msgspec.json.decode((cli.home / "config.schema.json").read_bytes())
    assert schema == msgspec.json.decode(msgspec.json.encode(config_schema()))
    assert cli.run("config", "validate").stdout == f"{file} is valid\n"
    file.write_text("# mine\n")
    again = cli.run("config", "init")
    assert (again.returncode, again.stdout) == (1, "")
    assert "exists and was left as it is" in again.stderr
    assert file.read_text() == "# mine\n"


def test_the_file_to_begin_with_elsewhere(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "내 설정.yaml"
    written = msgspec.json.decode(cli.run("config", "init", str(file), "--json").stdout)
    assert written == {"file": str(file), "schema": str(tmp_path / "config.schema.json")}
    assert cli.run("config", "validate", str(file)).returncode == 0
    nowhere = cli.run("config", "init", str(tmp_path / "absent/config.yaml"))
    assert (nowhere.returncode, nowhere.stdout) == (78, "")
    assert "No such file" in nowhere.stderr


def test_every_layer_is_told_as_the_origin(cli: CommandLine) -> None:
    file = written(
        cli, "server:\n  port: 9000\n  admin_key: 5ecret-5ecret\ncache:\n  ttl_seconds: 60\n"
    )
    cli.env |= {"MLX_SERVE_PORT": "9001", "MLX_SERVE_LOG_LEVEL": "debug"}
    shown = cli.run("config", "show", "--origin", "--preload", "한국어", "--json")
    assert shown.returncode == 0
    told = msgspec.json.decode(shown.stdout)
    assert told["file"] == str(file)
    settings = {each["key"]: (each["value"], each["origin"]) for each in told["settings"]}
    assert settings["server.port"] == (9001, "MLX_SERVE_PORT")
    assert settings["server.admin_key"] == ("(not shown)", f"{file}:3")
    assert settings["cache.ttl_seconds"] == (60, f"{file}:5")
    assert settings["logging.level"] == ("DEBUG", "MLX_SERVE_LOG_LEVEL")
    assert settings["models.preload"] == (["한국어"], "--preload")
    assert settings["cache.max_chat_models"] == (1, "default")
    lines = cli.run("config", "show", "--origin", "--port", "9002").stdout.splitlines()
    assert lines[0].split() == ["KEY", "VALUE", "ORIGIN"]
    assert ["server.port", "9002", "--port"] in [line.split() for line in lines]
    assert not any("5ecret" in line for line in lines)


def test_without_a_file_all_is_default(cli: CommandLine) -> None:
    told = cli.run("config", "validate")
    assert (told.returncode, told.stderr) == (0, "")
    assert "default" in told.stdout
    assert "ORIGIN" not in cli.run("config", "show").stdout


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("server:\n  prot: 1\n", 2, "server.prot"),
        ("\nserver:\n  port: many\n", 3, "server.port"),
        ("server:\n  port: [1\n", 3, ""),
        ("server:\n  host: !!python/object/apply:os.system ['touch CANARY']\n", 2, ""),
        ("models:\n  preload:\n  - a\n  - 7\n", 4, "models.preload[1]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    cli: CommandLine, tmp_path: Path, text: str, line: int, key: str
) -> None:
    canary = tmp_path / "canary"
    file = written(cli, text.replace("CANARY", str(canary)))
    told = cli.run("config", "validate")
    assert (told.returncode, told.stdout) == (78, "")
    assert told.stderr.startswith(f"mlx-serve: {file}:{line}: {key}")
    assert len(told.stderr.splitlines()) == 1
    assert not canary.exists()
    as_json = cli.run("config", "validate", "--json")
    assert as_json.returncode == 78
    answer = msgspec.json.decode(as_json.stdout)
    assert (answer["valid"], answer["line"], answer["key"]) == (False, line, key)
    assert cli.run("start", "--port", "0").returncode == 78


def test_a_key_that_others_can_read(cli: CommandLine) -> None:
    file = written(cli, "server:\n  admin_key: 5ecret-5ecret\n", mode=0o644)
    for command in (("config", "validate"), ("start", "--port", "0"), ("list",)):
        told = cli.run(*command)
        assert (told.returncode, told.stdout) == (78, "")
        assert f"{file}:2: server.admin_key: " in told.stderr
        assert f"chmod 600 {file}" in told.stderr
        assert "5ecret" not in told.stderr


def test_a_wrong_variable(cli: CommandLine) -> None:
    cli.env["MLX_SERVE_PORT"] = "many"
    told = cli.run("config", "validate")
    assert told.returncode == 78
    assert "MLX_SERVE_PORT: server.port: expected a whole number" in told.stderr
    # A file that is named is judged alone.
    assert cli.run("config", "validate", str(written(cli, "server: {port: 1}"))).returncode == 0


def test_warnings_are_no_failure(cli: CommandLine) -> None:
    written(cli, "preload_models: [a]\n")
    told = cli.run("config", "validate")
    assert told.returncode == 0
    assert "config.yaml:1: preload_models is deprecated" in told.stderr
    answer = msgspec.json.decode(cli.run("config", "validate", "--json").stdout)
    assert answer["valid"] is True
    assert len(answer["warnings"]) == 1


def test_the_schema(cli: CommandLine) -> None:
    told = cli.run("config", "schema")
    assert msgspec.json.decode(told.stdout)["properties"].keys() >= {"server", "chat"}
