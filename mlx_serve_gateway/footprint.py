"""How much memory a loaded model is given. Pure: from its manifest and the budget of all models.

A CPU is tens of times slower at everything but float32, so that without a GPU it is what models are
computed in. Those that would take too much of the memory in it stay as they are stored, where they
can.
Invariants: a model that chats gets memory for what it reads and says besides its weights, at most a
quarter of the budget, and what the weights leave of it if that is less.
"""

import msgspec

from mlx_serve_common.config import ChatConfig
from mlx_serve_common.launch import Allowance, GenerationLimits
from mlx_serve_common.models import Manifest, ModelKind
from mlx_serve_common.precision import loaded_bytes, widened_bytes

_WORKER_OVERHEAD_BYTES = 96 * 1024 * 1024
_LEAST_CACHE_BYTES = 64 * 1024 * 1024
_SHARE_FOR_CACHE = 4
_SHARE_FOR_WIDENED = 2


class Footprints(msgspec.Struct, frozen=True):
    memory_bytes: int
    """For all models together."""
    chat: ChatConfig
    has_gpu: bool = True

    def of(self, manifest: Manifest) -> int:
        """The weights, a fifth of them for computing, a Python process, and room for answers."""
        return self._without_answers(manifest) + self._cache_bytes(manifest)

    def allowance(self, manifest: Manifest) -> Allowance:
        return Allowance(
            widens=self._widens(manifest), generation=self._generation_limits(manifest)
        )

    def _generation_limits(self, manifest: Manifest) -> GenerationLimits | None:
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
        left = self.memory_bytes - self._without_answers(manifest)
        return max(_LEAST_CACHE_BYTES, min(left, self.memory_bytes // _SHARE_FOR_CACHE))

    def _without_answers(self, manifest: Manifest) -> int:
        is_wide = self._widens(manifest)
        return _loaded(widened_bytes(manifest) if is_wide else manifest.weights_bytes)

    def _widens(self, manifest: Manifest) -> bool:
        if self.has_gpu:
            return False
        if manifest.kind is not ModelKind.CHAT and manifest.quantization is None:
            return True  # a worker knows no other way
        return _loaded(widened_bytes(manifest)) <= self.memory_bytes // _SHARE_FOR_WIDENED


def _loaded(weights_bytes: int) -> int:
    return loaded_bytes(weights_bytes) + _WORKER_OVERHEAD_BYTES
