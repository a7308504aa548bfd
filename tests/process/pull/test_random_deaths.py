"""Pulls, quantizations and removals killed at random moments.

After each of them a server starts on what is left, every listed model answers it, and nothing
stays behind but what the next pull continues with.
"""

import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from mlx_serve_common.store_changes import copy_model, remove_model
from tests.deaths import KILLS, delays, kill_after
from tests.hub.faults import Fault
from tests.process.pull.conftest import WEIGHTS, Home
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

MADE = "made"
_REMOVAL = """
import sys
from pathlib import Path
from mlx_serve_common.store_changes import remove_model
remove_model(Path(sys.argv[1]), sys.argv[2])
"""


class Errand:
    """What is done again and again, beside the model ``tiny``, to a model named ``made``."""

    def __init__(self, home: Home, kind: str) -> None:
        models = home.models
        quantize = [sys.executable, "-P", "-m", "mlx_serve_worker.job", "quantize"]
        quantize += [f"--models-dir={models}", "--model=tiny", "--bits=8", "--group-size=32"]
        self.command = {
            "pull": home.command(f"--name={MADE}"),
            "quantize": [*quantize, f"--name={MADE}"],
            "remove": [sys.executable, "-c", _REMOVAL, str(models), MADE],
        }[kind]
        self._home = home
        self._is_there_first = kind == "remove"

    def prepare(self) -> None:
        is_there = self.is_there()
        if is_there and not self._is_there_first:
            remove_model(self._home.models, MADE)
        elif self._is_there_first and not is_there:
            copy_model(self._home.models, "tiny", MADE)

    def is_there(self) -> bool:
        return MADE in self._home.installed()

    def duration_s(self) -> float:
        self.prepare()
        begun = monotonic()
        subprocess.run(self.command, env=self._home.env, check=True, stdout=subprocess.DEVNULL)
        assert self.is_there() != self._is_there_first
        return monotonic() - begun


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("kind", ["pull", "quantize", "remove"])
def test_killed_at_random_moments(kind: str, kills: int, home: Home, short_dir: Path) -> None:
    home.run()
    home.hub.faults[WEIGHTS] = Fault(bytes_per_s=1e6)
    errand = Errand(home, kind)
    killed = 0
    for delay_s in delays(kills, errand.duration_s()):
        errand.prepare()
        killed += kill_after(delay_s, errand.command, home.env)
        until(lambda: not home.processes(), 5, "the end of every process")
        assert_a_server_serves_all(home, short_dir)
    assert killed > kills / 2
    errand.duration_s()
    home.assert_works("tiny")
    home.assert_nothing_left()


def assert_a_server_serves_all(home: Home, server_home: Path) -> None:
    with home.server(server_home) as gateway:
        listed = [model["id"] for model in gateway.ask("GET", "/v1/models").json["data"]]
        assert listed == home.installed()
        assert set(listed) - {MADE} == {"tiny"}
        for name in listed:
            assert len(gateway.embed(name, "a text").vectors()) == 1
    assert home.staged() == []
