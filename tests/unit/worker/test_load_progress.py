"""What is told of a load: stages at once, shares of the weights seldom enough."""

import threading

from mlx_serve_common.wire import Loading
from mlx_serve_worker import load_progress


def test_stages_at_once_and_shares_seldom() -> None:
    told: list[Loading] = []
    now = 0.0
    with load_progress.listening(told.append, lambda: now):
        for stage, done, seconds in (
            ("libraries", None, 0.0),
            ("files", None, 0.01),
            ("weights", 0.0, 0.02),
            ("weights", 0.2, 0.1),
            ("weights", 0.4, 0.3),
            ("weights", 0.5, 0.4),
        ):
            now = seconds
            load_progress.tell(stage, done)  # type: ignore[arg-type]
    assert told == [
        Loading("libraries", None),
        Loading("files", None),
        Loading("weights", 0.0),
        Loading("weights", 0.4),
    ]


def test_nobody_has_to_listen_and_nobody_hears_another_thread() -> None:
    told: list[Loading] = []
    load_progress.tell("files")
    with load_progress.listening(told.append):
        thread = threading.Thread(target=load_progress.tell, args=("files",))
        thread.start()
        thread.join()
    load_progress.tell("weights", 0.5)
    assert told == []
