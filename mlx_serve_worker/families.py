"""What is known of well-known models where their repository does not say it.

How they pool is needed without a ``modules.json``; their prompts, which few repositories hold, are
those of their model cards and are only put before a text when a request asks for one.

Invariants: a name decides only here, and the manifest's ``decided`` says that it did; anything
unknown is treated as sentence-transformers treats it: the mean, or the last token of a causal
language model, not normalised.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

from mlx_serve_common.models import Normalize, Pooling, PoolingMode, Step
from mlx_serve_worker.repository import unfit

_Prompts = dict[str, str]


class Family(NamedTuple):
    pipeline: list[Step]
    decided_by: str
    name: str
    prompts: _Prompts


class _Known(NamedTuple):
    name: str
    pattern: str
    """Of a repository's own name, in lower case."""
    pipeline: list[Step]
    prompts: _Prompts


_MEAN: list[Step] = [Pooling(["mean"]), Normalize()]
_CLS: list[Step] = [Pooling(["cls"]), Normalize()]
_LAST: list[Step] = [Pooling(["lasttoken"]), Normalize()]
_PLAIN_MEAN: list[Step] = [Pooling(["mean"])]
_PLAIN_CLS: list[Step] = [Pooling(["cls"])]
_NOT_KNOWABLE: list[Step] = []

_NONE: _Prompts = {}
_REPRESENT = {"query": "Represent this sentence for searching relevant passages: "}
_REPRESENT_ZH = {"query": "为这个句子生成表示以用于检索相关文章："}  # noqa: RUF001
_PASSAGE = {"query": "query: ", "passage": "passage: "}
_SEARCH = {"query": "search_query: ", "document": "search_document: "}
_NOMIC = {**_SEARCH, "clustering": "clustering: ", "classification": "classification: "}
_TASK = "Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCT = {"query": f"Instruct: {_TASK}\nQuery: "}
_QWEN3 = {"query": f"Instruct: {_TASK}\nQuery:", "document": ""}

# The first that fits counts, so a narrower pattern stands before a wider one.
_FAMILIES = tuple(
    _Known(*row)
    for row in (
        ("all-minilm", "all-minilm-*", _MEAN, _NONE),
        ("all-mpnet", "all-mpnet-*", _MEAN, _NONE),
        ("bge-m3", "bge-m3*", _CLS, _NONE),
        ("bge-en-icl", "bge-en-icl*", _LAST, _NONE),
        ("bge", "bge-*-zh*", _CLS, _REPRESENT_ZH),
        ("bge", "bge-*-en*", _CLS, _REPRESENT),
        ("bge", "bge-*", _CLS, _NONE),
        ("e5-mistral", "e5-mistral-*", _LAST, _INSTRUCT),
        ("e5", "e5-*", _MEAN, _PASSAGE),
        ("embeddinggemma", "embeddinggemma-*", _NOT_KNOWABLE, _NONE),
        ("granite-embedding", "granite-embedding-*", _CLS, _NONE),
        ("gte-qwen", "gte-qwen*", _LAST, _INSTRUCT),
        ("gte-modernbert", "gte-modernbert-*", _CLS, _NONE),
        ("gte-multilingual", "gte-multilingual-*", _CLS, _NONE),
        ("gte-v1.5", "gte-*-v1.5*", _CLS, _NONE),
        ("gte", "gte-*", _MEAN, _NONE),
        ("jina-embeddings-v2", "jina-embeddings-v2-*", _MEAN, _NONE),
        ("linq-embed-mistral", "linq-embed-mistral*", _LAST, _INSTRUCT),
        ("modernbert-embed", "*modernbert-embed-*", _MEAN, _SEARCH),
        ("multi-qa-dot", "multi-qa-*-dot-*", _PLAIN_CLS, _NONE),
        ("multi-qa-cos", "multi-qa-*-cos-*", _MEAN, _NONE),
        ("multilingual-e5-instruct", "multilingual-e5-*-instruct*", _MEAN, _INSTRUCT),
        ("multilingual-e5", "multilingual-e5-*", _MEAN, _PASSAGE),
        ("mxbai-embed", "mxbai-embed-*", _CLS, _REPRESENT),
        ("nomic-embed-text", "nomic-embed-text-*", _MEAN, _NOMIC),
        ("paraphrase", "paraphrase-*", _PLAIN_MEAN, _NONE),
        ("qwen3-embedding", "qwen3-embedding-*", _LAST, _QWEN3),
        ("sfr-embedding", "sfr-embedding-*", _LAST, _INSTRUCT),
        ("snowflake-arctic-embed-v2", "snowflake-arctic-embed-*-v2*", _CLS, {"query": "query: "}),
        ("snowflake-arctic-embed", "snowflake-arctic-embed-*", _CLS, _REPRESENT),
    )
)


def known_family(*names: str) -> Family | None:
    """``names`` are tried in order: the source's own, then the one given at install time."""
    for name in names:
        short = name.rpartition("/")[2].lower()
        for known in _FAMILIES:
            if fnmatchcase(short, known.pattern):
                decided_by = f"no modules.json: the family {known.name!r}"
                return Family(known.pipeline, decided_by, known.name, known.prompts)
    return None


def family(*names: str, is_causal: bool = False) -> Family:
    """``is_causal`` is whether the repository calls itself a causal language model."""
    found = known_family(*names)
    if found is not None and not found.pipeline:
        raise unfit("there is no modules.json, which has to tell of this family's Dense layers")
    default: PoolingMode = "lasttoken" if is_causal else "mean"
    return found or Family(
        [Pooling([default])],
        f"no modules.json, no known family: the default, {default}, not normalised",
        "",
        _NONE,
    )


def card_prompts(*names: str) -> tuple[dict[str, str], str]:
    """The prompts on the model card, and how it was found; none of an unknown family."""
    found = known_family(*names)
    if found is None or not found.prompts:
        return {}, ""
    return found.prompts, f"none in the repository: the model card of the family {found.name!r}"
