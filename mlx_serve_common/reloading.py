"""Which settings may change while the server runs, and what a reload would do.

Invariants: deciding changes nothing; the result is a configuration in which every key has its new
value or, where that needs a restart, the one it had.
"""

from typing import Any

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.settings import KEYS

RELOADABLE = frozenset(
    {
        "server.admin_key",
        "server.control_plane",
        "server.allowed_hosts",
        "server.allowed_origins",
        "models.pin",
        "models.aliases",
        "models.default_embedding",
        "models.default_reranker",
        "models.auto_download",
        "models.auto_download_timeout",
        "models.auto_download_on_request",
        "cache.max_embedding_models",
        "cache.max_reranker_models",
        "cache.max_chat_models",
        "cache.ttl_seconds",
        "cache.memory_budget",
        "limits.truncate",
        "limits.token_input",
        "limits.max_body_bytes",
        "limits.max_header_bytes",
        "limits.max_requests",
        "limits.max_requests_per_peer",
        "limits.body_timeout",
        "limits.drain_timeout",
        "logging.level",
        "logging.format",
    }
)


class Reload(msgspec.Struct, frozen=True):
    """What becomes of a new configuration: the keys that change now, and those that cannot."""

    config: Config
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reloadable(old: Config, new: Config) -> Reload:
    """What a server that runs with ``old`` does when it is given ``new``."""
    changed = [name for name in KEYS if value_of(old, name) != value_of(new, name)]
    applied = tuple(name for name in changed if name in RELOADABLE)
    config = old
    for name in applied:
        config = _with(config, name, value_of(new, name))
    return Reload(config, applied, tuple(name for name in changed if name not in RELOADABLE))


def value_of(config: Config, name: str) -> Any:
    """The value of a dotted key."""
    section, _, leaf = name.partition(".")
    return getattr(getattr(config, section), leaf)


def _with(config: Config, name: str, value: Any) -> Config:
    section, _, leaf = name.partition(".")
    changed = msgspec.structs.replace(getattr(config, section), **{leaf: value})
    return msgspec.structs.replace(config, **{section: changed})
