"""How much memory a loaded model is given. Pure: from its manifest and the budget of all models.

Invariants: a model that chats gets memory for what it reads and says besides its weights, at most a
quarter of the budget, and what the weights leave of it if that is less.
"""

import msgspec

from mlx_serve_common.config import ChatConfig
from mlx_serve_common.launch import GenerationLimits
from mlx_serve_common.models import Manifest, ModelKind

_WORKER_OVERHEAD_BYTES = 96 * 1024 * 1024
_LEAST_CACHE_BYTES = 64 * 1024 * 1024
_SHARE_FOR_CACHE = 4


class Footprints(msgspec.Struct, frozen=True):
    memory_bytes: int
    """For all models together."""
    chat: ChatConfig

    def of(self, manifest: Manifest) -> int:
        """The weights, a fifth of them for computing, a Python process, and room for answers."""
        return _without_answers(manifest) + self._cache_bytes(manifest)

    def generation_limits(self, manifest: Manifest) -> GenerationLimits | None:
        if manifest.kind is not ModelKind.CHAT:
            return None
        cache_bytes = self._cache_bytes(manifest)
        prefill, prompts = self.chat.prefill_tokens, self.chat.prompt_cache_bytes
        return GenerationLimits(
            max_sequences=self.chat.max_sequences,
            prefill_tokens=None if prefill == "auto" else prefill,
            cache_bytes=cache_bytes,
            prompt_cache_bytes=cache_bytes // 2 if prompts == "auto" else min(prompts, cache_bytes),
        )

    def _cache_bytes(self, manifest: Manifest) -> int:
        if manifest.kind is not ModelKind.CHAT:
            return 0
        left = self.memory_bytes - _without_answers(manifest)
        return max(_LEAST_CACHE_BYTES, min(left, self.memory_bytes // _SHARE_FOR_CACHE))


def _without_answers(manifest: Manifest) -> int:
    return manifest.weights_bytes * 6 // 5 + _WORKER_OVERHEAD_BYTES
