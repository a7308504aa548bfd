"""What the configuration means for the pool: places, memory, the limits of each kind of model."""

import psutil

from mlx_serve_common.config import Config
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.batcher import CREDIT, BatchLimits
from mlx_serve_gateway.eviction import Room
from mlx_serve_gateway.footprint import Footprints
from mlx_serve_gateway.gpu import has_gpu
from mlx_serve_gateway.lane import LaneLimits
from mlx_serve_gateway.preloading import installed_names
from mlx_serve_gateway.registry import Registry
from mlx_serve_gateway.residents import PoolSettings

# The worker sorts a batch by length, so the more of it there is, the less is padded: of texts of
# mixed lengths 2 % in batches of 512, 6 % in batches of 128.
_FORWARDS_PER_BATCH = 16
_SHARE_OF_MEMORY = 0.75


def pool_settings(config: Config, registry: Registry) -> PoolSettings:
    return PoolSettings(
        room=Room(
            slots={
                ModelKind.EMBEDDING: config.cache.max_embedding_models,
                ModelKind.RERANKER: config.cache.max_reranker_models,
                ModelKind.CHAT: config.cache.max_chat_models,
            },
            memory_bytes=memory_budget(config),
        ),
        footprints=Footprints(memory_budget(config), config.chat, has_gpu()),
        lanes={kind: _lane_limits(config, kind) for kind in ModelKind},
        ttl_s=config.cache.ttl_seconds,
        pinned=frozenset(installed_names(config.models.pin, registry)),
    )


def memory_budget(config: Config) -> int:
    if config.cache.memory_budget != "auto":
        return config.cache.memory_budget
    return int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)


def _lane_limits(config: Config, kind: ModelKind) -> LaneLimits:
    # Answers are generated in a batch of the worker's own, which each joins and leaves by itself.
    chats = kind is ModelKind.CHAT
    return LaneLimits(
        batch=BatchLimits(
            credit=config.chat.max_sequences if chats else CREDIT,
            queue_items=config.limits.max_queue_items,
            batch_items=1 if chats else _FORWARDS_PER_BATCH * config.batch.max_batch_size,
        ),
        request_timeout_s=config.limits.request_timeout,
        load_timeout_s=config.limits.load_timeout,
        linger_s=0 if chats else config.batch.max_wait_ms / 1000,
    )
