import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Truncate
from mlx_serve_gateway.http.truncation import choose_truncation


@pytest.mark.parametrize("default", ["right", "left", "none"])
def test_nothing_asked_is_the_setting(default: Truncate) -> None:
    assert choose_truncation(None, default) == default


@pytest.mark.parametrize(
    ("default", "cut"), [("right", "right"), ("left", "left"), ("none", "right")]
)
def test_true_cuts_in_any_case(default: Truncate, cut: Truncate) -> None:
    assert choose_truncation(True, default) == cut


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (False, "none"),
        ("none", "none"),
        ("NONE", "none"),
        ("right", "right"),
        ("Right", "right"),
        ("END", "right"),
        ("left", "left"),
        ("Left", "left"),
        ("START", "left"),
    ],
)
def test_words_of_several_apis(asked: bool | str, chosen: Truncate) -> None:
    for default in ("right", "left", "none"):
        assert choose_truncation(asked, default) == chosen


@pytest.mark.parametrize("asked", ["", "middle", "true", "rigth"])
def test_other_words_are_refused(asked: str) -> None:
    with pytest.raises(ServeError) as refused:
        choose_truncation(asked, "right")
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert refused.value.param == "truncate"
