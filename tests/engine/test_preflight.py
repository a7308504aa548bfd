"""Which files of a repository are wanted, and for what it is refused at sight."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.listing import Listing, read_listing
from mlx_serve_worker.preflight import Layout, plan, read_layout, read_shards, refuse_without_room

BASE = {"config.json": 500, "tokenizer.json": 1000, "tokenizer_config.json": 300}
GIGABYTE = 10**9


def encoded(files: dict[str, int]) -> bytes:
    siblings = [
        {"rfilename": name, "size": size, "blobId": "a" * 40} for name, size in files.items()
    ]
    return json.dumps({"id": "Org/Name", "sha": "c" * 40, "siblings": siblings}).encode()


def listing(*names: str, **sizes: int) -> Listing:
    return read_listing(encoded(BASE | dict.fromkeys(names, 10) | sizes), "org/name")


def chosen(found: Listing, *arguments: Any) -> set[str]:
    return {file.name for file in plan(found, *arguments).files}


def test_the_owners_spelling_is_kept_and_a_new_name_is_not() -> None:
    assert listing().repo == "Org/Name"
    assert read_listing(encoded(BASE), "old/name").repo == "old/name"


def test_what_is_left_out() -> None:
    unneeded = [
        "README.md", "pytorch_model.bin", "tf_model.h5", "model.onnx", "model.py", "evil.json/x",
        "onnx/config.json", "checkpoint-5/model.safetensors", ".gitattributes", ".hidden.json",
        ".x.safetensors", "original/params.json", "model.safetensors.bak", "2_Dense/config.json",
    ]  # fmt: skip
    found = listing("model.safetensors", "chat_template.jinja", "vocab.txt", *unneeded)
    expected = {*BASE, "model.safetensors", "chat_template.jinja", "vocab.txt"}
    assert chosen(found) == expected


def test_small_files_come_first_and_the_smallest_of_them() -> None:
    found = listing("b.safetensors", "a.safetensors", "merges.txt")
    names = [file.name for file in plan(found).files]
    small = ["merges.txt", "tokenizer_config.json", "config.json", "tokenizer.json"]
    assert names == [*small, "a.safetensors", "b.safetensors"]


def test_large_json_of_no_known_use_is_left_out() -> None:
    found = listing("model.safetensors", **{"trainer_state.json": 50_000_000})
    assert "trainer_state.json" not in chosen(found)


def test_one_form_of_the_weights() -> None:
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert chosen(listing("model.safetensors", *shards)) == {*BASE, "model.safetensors"}
    found = listing("consolidated.safetensors", *shards)
    assert chosen(found) == {*BASE, "consolidated.safetensors", *shards}
    assert chosen(found, Layout(), list(shards)) == {*BASE, *shards}
    with pytest.raises(ServeError, match="not there"):
        plan(found, Layout(), ["../secret.safetensors"])


def test_folders_of_modules() -> None:
    layout = read_layout(
        [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": ""}, {}]
    )
    assert layout == Layout("", ("1_Pooling", "2_Dense"))
    files = (
        "model.safetensors", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "3_Other/config.json",
    )  # fmt: skip
    expected = {*BASE, *files} - {"2_Dense/pytorch_model.bin", "3_Other/config.json"}
    assert chosen(listing(*files), layout) == expected
    within = Layout("0_Transformer", ("0_Transformer",))
    found = listing("other.safetensors", "0_Transformer/x.safetensors", "0_Transformer/config.json")
    assert "other.safetensors" not in chosen(found, within)
    assert "0_Transformer/x.safetensors" in chosen(found, within)


@pytest.mark.parametrize("path", ["../x", "/etc", "a/b", ".git", "a\\b", 5, "x" * 200])
def test_folders_that_are_none(path: object) -> None:
    with pytest.raises(ServeError):
        read_layout([{"path": ""}, {"path": path}])


def test_weights_may_lie_where_modules_say() -> None:
    found = listing("modules.json", "0_Transformer/model.safetensors")
    plan(found)
    with pytest.raises(ServeError, match="no weights"):
        plan(found, Layout("", ("1_Pooling",)))
    with pytest.raises(ServeError, match="no weights"):
        plan(listing("0_Transformer/model.safetensors"))


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"x": []}])
def test_index_that_says_nothing(index: dict[str, Any]) -> None:
    with pytest.raises(ServeError, match="names no files"):
        read_shards(index)


@pytest.mark.parametrize(
    ("needed", "free", "is_enough"),
    [
        (0, 0, True),
        (10**6, 50 * 10**6, False),
        (10**6, 70 * 10**6, True),
        (GIGABYTE, int(1.9 * GIGABYTE), False),
        (GIGABYTE, int(2.1 * GIGABYTE), True),
        (100 * GIGABYTE, 101 * GIGABYTE, False),
        (100 * GIGABYTE, 102 * GIGABYTE, True),
    ],
)
def test_room(needed: int, free: int, is_enough: bool) -> None:
    if is_enough:
        refuse_without_room(needed, free)
        return
    with pytest.raises(ServeError) as refused:
        refuse_without_room(needed, free)
    assert refused.value.code is ErrorCode.INSUFFICIENT_STORAGE


@given(st.binary(max_size=200))
def test_any_answer_is_a_listing_or_an_error(data: bytes) -> None:
    with pytest.raises(ServeError):
        read_listing(data, "org/name")


PARTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_any_name_that_is_taken_stays_below(name: str) -> None:
    try:
        found = listing(name)
    except ServeError as error:
        assert error.code is ErrorCode.UNSAFE_MODEL
        return
    parts = name.split("/")
    assert name in found.files
    assert not {"", ".", ".."} & set(parts)
    assert not set(name) & set("\\\0:")
