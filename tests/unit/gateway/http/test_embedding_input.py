from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.embedding_input import read_input


def read(given: Any) -> Any:
    return read_input(given, "model", 8).inputs


def refusal(given: Any) -> ServeError:
    with pytest.raises(ServeError) as refused:
        read(given)
    assert refused.value.param == "input"
    return refused.value


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("text", ["text"]),
        ("", [""]),
        (["a", ""], ["a", ""]),
        ({"text": "a"}, ["a"]),
        ([{"text": "a"}, "b"], ["a", "b"]),
        ([5], [[5]]),
        ([1, 2, 0], [[1, 2, 0]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([2**32 - 1], [[2**32 - 1]]),
    ],
)
def test_every_shape_becomes_a_list(given: Any, inputs: Any) -> None:
    assert read(given) == inputs


@pytest.mark.parametrize(
    "given",
    [
        [1, "a"],
        ["a", 1],
        [None],
        ["a", None],
        [True],
        [[True]],
        [[1], True],
        [1.0],
        [[1.5]],
        [[1], "a"],
        [[1], [["a"]]],
        [[["deep"]]],
        [["a"]],
        [{"image": "x"}],
        {"text": 5},
        {},
        [{"text": None}],
        [-1],
        [[3, -1]],
        [2**32],
        [[2**80]],
    ],
)
def test_anything_else_is_refused(given: Any) -> None:
    assert refusal(given).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("given", [[], [[]], [[1], []]])
def test_nothing_to_embed(given: Any) -> None:
    assert refusal(given).code is ErrorCode.EMPTY_INPUT


def test_how_many() -> None:
    assert len(read(["a"] * 8)) == 8
    assert refusal(["a"] * 9).code is ErrorCode.TOO_MANY_INPUTS
    assert refusal([[1]] * 9).code is ErrorCode.TOO_MANY_INPUTS
    # One input of nine ids, not nine inputs.
    assert len(read([1] * 9)) == 1


def test_endless_list_of_ids() -> None:
    assert refusal([[7] * (2**20 + 1)]).code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


def test_the_bad_id_is_named() -> None:
    assert "-7" in refusal([3, -7]).message
    assert str(2**40) in refusal([3, 2**40]).message


def test_whose_ids_they_are() -> None:
    assert read_input([1], "cl100k_base", 8).vocabulary == "cl100k_base"
