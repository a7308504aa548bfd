"""What every model that gives vectors shares: inputs made ready, and vectors as callers want them.

Invariants: inputs with different wishes share a forward pass, each vector is finished by its own
wish; what a caller asked for is done or refused, never left out.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import mlx.core as mx
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Embed, EmbedTokens
from mlx_serve_worker.backend import Output, Prepared, VectorWish
from mlx_serve_worker.pooling import Pipeline, normalized
from mlx_serve_worker.rendering import render_rows
from mlx_serve_worker.tokenization import TextTokenizer


def prepare(
    part: Embed | EmbedTokens, tokenizer: TextTokenizer, pipeline: Pipeline
) -> list[Prepared | ServeError]:
    if error := _refused(part, pipeline.dimensions):
        return [error for _ in part.ids]
    wish = VectorWish(part.encoding, part.dimensions, part.normalize)
    return [
        item if isinstance(item, ServeError) else _wished(item, wish, pipeline)
        for item in _tokenized(part, tokenizer)
    ]


def _refused(part: Embed | EmbedTokens, native: int) -> ServeError | None:
    if part.dimensions is None or 0 < part.dimensions <= native:
        return None
    return ServeError(
        ErrorCode.INVALID_REQUEST,
        f"this model gives {native} dimensions; {part.dimensions} cannot be had of them",
        param="dimensions",
    )


def _tokenized(part: Embed | EmbedTokens, tokenizer: TextTokenizer) -> list[Prepared | ServeError]:
    if isinstance(part, Embed):
        return tokenizer.prepare(part.texts, part.truncate, part.prompt)
    if part.vocabulary == "model":
        return tokenizer.prepare_ids(part.tokens, part.truncate, part.prompt)
    # Here, because most servers never see such ids and the ranks take a while to load.
    from mlx_serve_worker import openai_tokens

    decoded = [openai_tokens.decode(ids) for ids in part.tokens]
    texts = [text for text in decoded if isinstance(text, str)]
    prepared = iter(tokenizer.prepare(texts, part.truncate, part.prompt))
    return [text if isinstance(text, ServeError) else next(prepared) for text in decoded]


def _wished(item: Prepared, wish: VectorWish, pipeline: Pipeline) -> Prepared | ServeError:
    if pipeline.excludes_prompt and item.prompt_tokens >= item.length:
        return ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED if item.truncated else ErrorCode.EMPTY_INPUT,
            "besides the prompt, which this model leaves out, nothing of the input is left",
            param="input",
        )
    return msgspec.structs.replace(item, wish=wish)


def finish(pooled: mx.array, inputs: Sequence[Prepared], pipeline: Pipeline) -> list[Output | None]:
    """Pooled vectors, shortened, scaled and rendered as wished; None where one is not finite."""
    outputs: list[Output | None] = [None] * len(inputs)
    for (dimensions, unit), rows in _by_wish(inputs, pipeline).items():
        vectors = pooled if len(rows) == len(inputs) else pooled[mx.array(rows)]
        vectors = vectors[:, :dimensions]
        if unit:
            vectors = normalized(vectors)
        finite = mx.isfinite(vectors).all(axis=-1)
        mx.eval(vectors, finite)
        encodings = [_wish(inputs[row]).encoding for row in rows]
        rendered = render_rows(vectors, encodings, cast(list[bool], finite.tolist()))
        for row, value in zip(rows, rendered, strict=True):
            outputs[row] = value
    return outputs


def _by_wish(
    inputs: Sequence[Prepared], pipeline: Pipeline
) -> dict[tuple[int | None, bool], list[int]]:
    """Rows by how many dimensions are wanted, and whether of unit length."""
    groups: dict[tuple[int | None, bool], list[int]] = defaultdict(list)
    for row, prepared in enumerate(inputs):
        wish = _wish(prepared)
        unit = wish.normalize
        if unit is None:
            # A shortened vector is scaled again, as OpenAI does.
            unit = pipeline.normalizes or wish.dimensions is not None
        groups[wish.dimensions, unit].append(row)
    return groups


def _wish(prepared: Prepared) -> VectorWish:
    assert prepared.wish is not None, "prepare() gives a wish to every input"
    return prepared.wish
