"""``scripts/bench --quick``: everything that is measured runs, and has its row."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench import cold, switching
from bench.loads import all_loads
from bench.loads.load import QUICK
from bench.subjects import ECHO, OURS
from tests.process.gateways import SOURCE, environment

pytestmark = pytest.mark.process


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bench", "--quick", *arguments],
        cwd=SOURCE,
        env=environment(),
        capture_output=True,
        text=True,
    )


def test_every_row_is_measured(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    done = _bench("--json", str(found))
    assert done.returncode == 0, done.stderr

    rows = [row for load in all_loads(QUICK, []) for row in load.rows]
    rows += [*cold.ROWS, *cold.CHAT_ROWS, *switching.ROWS]
    told = msgspec.json.decode(found.read_bytes())
    assert [(row["load"], row["measure"]) for row in told["rows"]] == [row[:2] for row in rows]
    for row in told["rows"]:
        assert row["subjects"][OURS]["median"] is not None, row
        assert f"| {row['load']} | {row['measure']} |" in done.stdout
    of_echo = [row["load"] for row in told["rows"] if row["subjects"][ECHO]["median"] is not None]
    assert {load.partition(",")[0] for load in of_echo} == {
        "nothing computed",
        "32 vectors of 1024",
    }
    assert "left out: infinity" in done.stderr


def test_the_others_are_measured_without_a_peer_that_does_not_start(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "infinity_emb"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho torch is missing\nexit 1\n")
    program.chmod(0o700)

    done = _bench("--only", "one text, one client", "--peer", f"infinity={tmp_path}")

    assert done.returncode == 1
    assert done.stderr.endswith("failed: infinity: it does not serve: torch is missing\n")
    assert re.search(r"\| one text, one client \| median \| ms \| [\d.]+ \| - \|", done.stdout)
