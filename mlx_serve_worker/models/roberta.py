"""RoBERTa, XLM-R and CamemBERT encoders (bge-m3, multilingual-e5, ...): BERT with other positions.

Invariants: equal to transformers' ``RobertaModel`` without its pooler: places are counted from one
more than the padding token's id, and that token, wherever it stands, has the place of its id.
"""

from typing import Any

import mlx.core as mx

from mlx_serve_worker.models import bert
from mlx_serve_worker.models.attention import everywhere
from mlx_serve_worker.models.bert import BertConfig, Embeddings, Layers
from mlx_serve_worker.models.configuration import Rows, head_size, read, unfit
from mlx_serve_worker.models.token_rows import token_rows


class RobertaConfig(BertConfig, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 50265
    pad_token_id: int | None = 1


class RobertaEmbeddings(Embeddings):
    def __init__(self, config: BertConfig, padding_id: int) -> None:
        super().__init__(config)
        self.padding_id = padding_id

    def __call__(self, token_ids: mx.array, type_ids: mx.array | None = None) -> mx.array:
        types = self.token_type(mx.zeros((1,), mx.int32) if type_ids is None else type_ids)
        places = counted_places(token_ids, self.padding_id)
        return self.norm(self.word(token_ids) + types + self.position(places))


class RobertaEncoder(Layers):
    def __init__(self, config: BertConfig, padding_id: int) -> None:
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.positions = config.max_position_embeddings - padding_id - 1
        self.dimensions = config.hidden_size
        self.embeddings = RobertaEmbeddings(config, padding_id)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        rows = token_rows(mask)
        return self.through(rows.pack(self.embeddings(token_ids)), everywhere(mask), rows)


def counted_places(token_ids: mx.array, padding_id: int) -> mx.array:
    """The place of each token, never more than ``padding_id`` beyond how many there are."""
    counts = (token_ids != padding_id).astype(mx.int32)
    return mx.cumsum(counts, axis=1) * counts + padding_id


_PREFIXES = ("roberta.", "xlm_roberta.", "camembert.")
_UNUSED = ("lm_head.", "qa_outputs.")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return None if name.startswith(_UNUSED) else bert.parameter_name(name)


def build(config: dict[str, Any]) -> RobertaEncoder:
    """A model with its shapes, but no weights yet."""
    parsed = read(config, RobertaConfig)
    head_size(parsed.hidden_size, parsed.num_attention_heads)
    if parsed.position_embedding_type != "absolute":
        raise unfit(f"{parsed.position_embedding_type[:40]!r} position embeddings are unknown here")
    if parsed.is_decoder or parsed.add_cross_attention:
        raise unfit("RoBERTa as a decoder is not supported")
    padding_id = parsed.pad_token_id
    rows = min(parsed.max_position_embeddings - 1, parsed.vocab_size)
    if padding_id is None or not 0 <= padding_id < rows:
        raise unfit(f"a pad_token_id of {padding_id} leaves no positions")
    return RobertaEncoder(parsed, padding_id)
