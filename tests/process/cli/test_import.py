"""``import``: the job's events and its end, drawn and told truly."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlx_serve_gateway.cli import job
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process

SUCCESS = '{"status":"success","model":"m"}'


def a_job(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(job, "_JOB", (sys.executable, "-c", script))


def prints(*lines: str, code: int = 0) -> str:
    return f"for line in {lines!r}: print(line)\nraise SystemExit({code})"


def test_success_as_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_job(monkeypatch, prints('{"status":"copying","detail":"한국어"}', "stray\x1b[2J", SUCCESS))
    assert job.run_job([], as_json=False) == 0
    assert capsys.readouterr() == ("", "copying 한국어\nstray\\x1b[2J\nsuccess m\n")


def test_success_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events = ('{"status":"copying","total":2,"completed":1}', SUCCESS)
    a_job(monkeypatch, prints(*events))
    assert job.run_job([], as_json=True) == 0
    assert capsys.readouterr() == ("\n".join(events) + "\n", "")


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        (prints('{"error":"no\\nweights","code":"invalid_model"}', code=1), 1, "no\\nweights"),
        (prints('{"error":"oops","code":"internal_error"}', code=1), 70, "oops"),
        (prints('{"error":"odd"}', code=0), 1, "odd"),
        (prints('{"status":"copying"}', code=0), 70, "exit code 0"),
        (prints(SUCCESS, code=5), 70, "exit code 5"),
        (prints(), 70, "broke down"),
        ("import os; os.kill(os.getpid(), 9)", 70, "exit code -9"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\n[' + b'[' * 100000)", 70, "broke down"),
    ],
)
def test_failures(
    monkeypatch: pytest.MonkeyPatch, script: str, code: ExitCode, message: str
) -> None:
    a_job(monkeypatch, script)
    with pytest.raises(CommandFailed, match=re.escape(message)) as caught:
        job.run_job([], as_json=True)
    assert caught.value.code == code


INTERRUPTED = """
import sys
from mlx_serve_gateway.cli import job
from mlx_serve_gateway.cli.main import mlx_serve
from mlx_serve_gateway.cli.entry import run
job._JOB = (sys.executable, "-c", "import os,time;print(os.getpid(),flush=True);time.sleep(60)")
run(mlx_serve, "mlx-serve")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_job(
    cli: CommandLine, tmp_path: Path, signum: signal.Signals
) -> None:
    importing = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "import", str(tmp_path), "--name", "m"],
        env=cli.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert importing.stderr is not None
    job_pid = int(importing.stderr.readline())
    importing.send_signal(signum)
    _, err = importing.communicate()
    assert importing.returncode == 130
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(job_pid, 0)


def test_what_the_job_is_told(cli: CommandLine, tmp_path: Path) -> None:
    source = tmp_path / "-source"
    source.mkdir()
    refused = cli.run("import", "--name=-rf", "--type", "chat", "--", str(source))
    assert refused.returncode == 1, refused
    assert "-rf" in refused.stderr
    assert cli.run("import", str(tmp_path / "absent"), "--name", "m").returncode == 64
    assert cli.run("import", str(source), "--name", "m", "--type", "no").returncode == 64
    assert cli.run("import", str(source)).returncode == 64


@pytest.mark.engine
def test_a_real_model(cli: CommandLine, tmp_path: Path) -> None:
    from tests.engine.tiny import LAYOUTS, build

    source = build(LAYOUTS["mean"], tmp_path / "tiny")
    imported = cli.run("import", str(source), "--name", "작은-모델", "--type", "embedding")
    assert imported.returncode == 0, imported
    assert imported.stderr.splitlines()[-1] == "success 작은-모델"
    (model,) = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    assert (model["name"], model["dimensions"]) == ("작은-모델", 32)

    again = cli.run("import", str(source), "--name", "작은-모델")
    assert again.returncode == 1
    kept = cli.run("import", str(source), "--name", "작은-모델", "--exist-ok", "--json")
    assert kept.returncode == 0
    assert json.loads(kept.stdout.splitlines()[-1])["status"] == "success"


@pytest.mark.engine
def test_replacing_and_naming_the_source(cli: CommandLine, tmp_path: Path) -> None:
    from tests.engine.tiny import LAYOUTS, build

    first, second = (build(LAYOUTS[name], tmp_path / name) for name in ("mean", "cls"))
    assert cli.run("import", str(first), "--name", "m", "--source-id", "org/m").returncode == 0
    replaced = cli.run("import", str(second), "--name", "m", "--replace")
    assert replaced.returncode == 0, replaced
    assert "cls pooling" in cli.run("show", "m").stdout
    again = cli.run("import", str(first), "--name", "m", "--source-id", "org/m", "--replace")
    assert again.returncode == 0
    (model,) = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    assert model["source"] == "org/m"
    for wrong in (("--source-id", "../x"), ("--source-id", "m"), ("--exist-ok", "--replace")):
        assert cli.run("import", str(first), "--name", "m", *wrong).returncode == 64
