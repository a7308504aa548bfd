"""How well-known models pool when their repository does not say (it has no ``modules.json``).

Invariants: a name decides only here, and the manifest's ``decided`` says that it did; anything
unknown is treated as sentence-transformers treats it: the mean, not normalised.
"""

from typing import NamedTuple

from mlx_serve_common.models import Normalize, Pooling, Step


class Family(NamedTuple):
    pipeline: list[Step]
    decided_by: str


_MEAN: list[Step] = [Pooling(["mean"]), Normalize()]
_CLS: list[Step] = [Pooling(["cls"]), Normalize()]

# The start of a repository's own name, in lower case.
_FAMILIES: tuple[tuple[str, list[Step]], ...] = (
    ("all-minilm-", _MEAN),
    ("bge-", _CLS),
    ("e5-", _MEAN),
    ("gte-", _MEAN),
    ("multilingual-e5-", _MEAN),
    ("mxbai-embed-", _CLS),
    ("snowflake-arctic-embed-", _CLS),
)


def family(*names: str) -> Family:
    """``names`` are tried in order: the source's own, then the one given at install time."""
    for name in names:
        short = name.rpartition("/")[2].lower()
        for prefix, pipeline in _FAMILIES:
            if short.startswith(prefix):
                return Family(pipeline, f"no modules.json: the family {prefix.rstrip('-')!r}")
    return Family(
        [Pooling(["mean"])], "no modules.json, no known family: the default, mean, not normalised"
    )
