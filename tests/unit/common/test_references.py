"""Names that stand for a repository, and everything that must not be taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.references import read_reference


@pytest.mark.parametrize(
    ("name", "repository", "revision", "model"),
    [
        ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B", None, "Qwen3-Embedding-0.6B"),
        ("org/name:latest", "org/name", None, "name"),
        ("org/name@main", "org/name", "main", "name"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1", "name"),
        ("org/name@" + "a1" * 20, "org/name", "a1" * 20, "name"),
        ("hf.co/org/name", "org/name", None, "name"),
        ("https://huggingface.co/org/name@v1.0", "org/name", "v1.0", "name"),
        ("a/_b", "a/_b", None, "_b"),
    ],
)
def test_repositories(name: str, repository: str, revision: str | None, model: str) -> None:
    found = read_reference(name)

    assert found is not None
    assert (*found, found.model) == (repository, revision, model)
    assert str(found) == (repository if revision is None else f"{repository}@{revision}")


@pytest.mark.parametrize(
    "name",
    [
        "", "name", "a/b/c", "/abs", "a/", "/b", "../../etc", "..%2f", "a/../../b", "a/..", "a/.b",
        "C:\\x", "a\0b/c", "a/b\0", "-rf/x", "a/-b", ".", "a/b\n", "a /b", "x" * 97 + "/a",
        "a/" + "x" * 97, "org/name@", "org/name@../x", "org/name@-x", "org/name@a..b",
        "org/name@a//b", "org/name@a/", "org/na--me", "org/name.git", "org/name.", "é/b",
        "http://evil/a/b", "hf.co/a", "org/name@main@main", "org/name:tag",
    ],
)  # fmt: skip
def test_anything_else(name: str) -> None:
    assert read_reference(name) is None


@given(st.text(alphabet="ab./@-_:\\%\n\0 ", max_size=20))
def test_what_is_taken_for_one_cannot_climb(name: str) -> None:
    found = read_reference(name)
    if found is not None:
        parts = [*found.repository.split("/"), *(found.revision or "x").split("/")]
        assert len(found.repository.split("/")) == 2
        assert not {"", ".", ".."} & set(parts)
        assert not str(found).startswith("-")
        assert str(found).isprintable()
