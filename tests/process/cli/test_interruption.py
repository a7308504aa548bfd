"""An interrupt is raised when the child can be ended, and not before."""

import os
import signal

import pytest

from mlx_serve_gateway.cli.interruption import interruption

pytestmark = pytest.mark.process


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_early_signal_waits_until_it_is_allowed(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with interruption() as allow:
        os.kill(os.getpid(), signum)
        with pytest.raises(KeyboardInterrupt):
            allow()
        os.kill(os.getpid(), signum)  # while the child is being ended
    assert signal.getsignal(signum) == before


def test_a_later_signal_is_raised_at_once() -> None:
    with interruption() as allow:
        allow()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption() as allow:
            os.kill(os.getpid(), signal.SIGHUP)
            allow()
    finally:
        signal.signal(signal.SIGHUP, before)
