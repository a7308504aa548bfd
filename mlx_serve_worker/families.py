"""How well-known models pool when their repository does not say (it has no ``modules.json``).

Invariants: a name decides only here, and the manifest's ``decided`` says that it did; anything
unknown is treated as sentence-transformers treats it: the mean, or the last token of a causal
language model, not normalised.
"""

from typing import NamedTuple

from mlx_serve_common.models import Normalize, Pooling, PoolingMode, Step


class Family(NamedTuple):
    pipeline: list[Step]
    decided_by: str


_MEAN: list[Step] = [Pooling(["mean"]), Normalize()]
_CLS: list[Step] = [Pooling(["cls"]), Normalize()]
_LAST: list[Step] = [Pooling(["lasttoken"]), Normalize()]

# The start of a repository's own name, in lower case.
_FAMILIES: tuple[tuple[str, list[Step]], ...] = (
    ("all-minilm-", _MEAN),
    ("bge-", _CLS),
    # Before the shorter name that it begins with.
    ("e5-mistral-", _LAST),
    ("e5-", _MEAN),
    ("gte-qwen", _LAST),
    ("gte-", _MEAN),
    ("linq-embed-mistral", _LAST),
    ("multilingual-e5-", _MEAN),
    ("mxbai-embed-", _CLS),
    ("qwen3-embedding-", _LAST),
    ("sfr-embedding-", _LAST),
    ("snowflake-arctic-embed-", _CLS),
)


def known_family(*names: str) -> Family | None:
    """``names`` are tried in order: the source's own, then the one given at install time."""
    for name in names:
        short = name.rpartition("/")[2].lower()
        for prefix, pipeline in _FAMILIES:
            if short.startswith(prefix):
                return Family(pipeline, f"no modules.json: the family {prefix.rstrip('-')!r}")
    return None


def family(*names: str, is_causal: bool = False) -> Family:
    """``is_causal`` is whether the repository calls itself a causal language model."""
    default: PoolingMode = "lasttoken" if is_causal else "mean"
    return known_family(*names) or Family(
        [Pooling([default])],
        f"no modules.json, no known family: the default, {default}, not normalised",
    )
