import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ModelKind
from mlx_serve_gateway.http.prompts import MAX_PROMPT_CHARACTERS, Asked, choose_prompt


def manifest(default: str | None = None, **prompts: str) -> Manifest:
    return Manifest(
        name="m",
        kind=ModelKind.EMBEDDING,
        architecture="bert",
        created_at="2026-01-01T00:00:00Z",
        prompts={name.replace("__", "."): text for name, text in prompts.items()},
        default_prompt=default,
    )


CARD = manifest(query="Q: ", document="D: ", clustering="C: ")


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (Asked(), None),
        (Asked(prompt="mine: "), "mine: "),
        (Asked(prompt=""), ""),
        (Asked(prompt="mine: ", prompt_name="query"), "mine: "),
        (Asked(prompt_name="document"), "D: "),
        (Asked(prompt_name="document", input_type="query"), "D: "),
        (Asked(input_type="query"), "Q: "),
        (Asked(input_type="search_query"), "Q: "),
        (Asked(input_type="passage"), "D: "),
        (Asked(input_type="search_document"), "D: "),
        (Asked(input_type="clustering"), "C: "),
        (Asked(input_type="image"), None),
        (Asked(task="retrieval.query"), "Q: "),
        (Asked(task="retrieval.passage"), "D: "),
        (Asked(task="text-matching"), None),
        (Asked(input_type="document", task="retrieval.query"), "D: "),
    ],
)
def test_ways_of_asking(asked: Asked, chosen: str | None) -> None:
    assert choose_prompt(asked, CARD) == chosen


@pytest.mark.parametrize(
    ("prompts", "purpose", "chosen"),
    [
        ({"search_query": "s: "}, "query", "s: "),
        ({"retrieval__query": "r: "}, "query", "r: "),
        ({"passage": "p: "}, "document", "p: "),
        ({"retrieval__passage": "p: "}, "document", "p: "),
        ({"query": "q: ", "search_query": "s: "}, "search_query", "s: "),
    ],
)
def test_names_that_model_cards_use(
    prompts: dict[str, str], purpose: str, chosen: str | None
) -> None:
    assert choose_prompt(Asked(input_type=purpose), manifest(**prompts)) == chosen


def test_a_document_does_not_get_the_prompt_of_queries() -> None:
    asymmetric = manifest(default="query", query="Q: ")
    assert choose_prompt(Asked(input_type="document"), asymmetric) == ""
    assert (
        choose_prompt(Asked(input_type="query"), manifest(default="document", document="D: ")) == ""
    )


def test_any_other_purpose_leaves_the_default_to_the_model() -> None:
    assert choose_prompt(Asked(input_type="classification"), manifest("query", query="Q: ")) is None


def test_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(ServeError) as refused:
        choose_prompt(Asked(prompt_name="nope"), CARD)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert refused.value.param == "prompt_name"
    assert "clustering, document, query" in refused.value.message
    with pytest.raises(ServeError, match="none"):
        choose_prompt(Asked(prompt_name="query"), manifest())


def test_endless_prompt_is_refused() -> None:
    assert choose_prompt(Asked(prompt="x" * MAX_PROMPT_CHARACTERS), CARD)
    with pytest.raises(ServeError) as refused:
        choose_prompt(Asked(prompt="x" * (MAX_PROMPT_CHARACTERS + 1)), CARD)
    assert refused.value.param == "prompt"
