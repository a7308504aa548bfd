"""How far a load is: what is shown at any moment, and what watchers are told."""

from mlx_serve_common.wire import Loading
from mlx_serve_gateway.load_progress import LoadProgress, LoadState


def test_how_long_it_has_not_moved_is_seen() -> None:
    load = LoadProgress(100.0)
    assert load.state(103.0) == LoadState(stage="process", done=None, for_s=3.0, still_s=3.0)
    load.hear(Loading("weights", 0.25), 104.0)
    assert load.state(104.5) == LoadState(stage="weights", done=0.25, for_s=4.5, still_s=0.5)
    # Saying the same again is no progress.
    load.hear(Loading("weights", 0.25), 110.0)
    assert load.state(110.0).still_s == 6.0


def test_watchers_are_told_seldom_and_not_of_a_load_that_is_over_in_a_moment() -> None:
    load = LoadProgress(100.0)
    told = [at for at in range(1, 21) if load.hear(Loading("weights", at / 20), 100.0 + at)]
    assert told == [2, 7, 12, 17]
