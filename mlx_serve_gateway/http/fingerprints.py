"""The fingerprints of models as they are asked: remembered, for each answer has one.

Invariant: bounded; what belongs to a manifest that was replaced is not told again.
"""

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import Manifest
from mlx_serve_gateway.calls import EmbedOptions

_MOST = 256
_LONGEST_PROMPT = 1024


class Fingerprints:
    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[Manifest, str]] = {}

    def of(self, manifest: Manifest, options: EmbedOptions) -> str:
        key = (manifest.name, options.prompt, options.dimensions, options.normalize)
        known = self._known.get(key)
        if known is not None and known[0] is manifest:
            return known[1]
        found = index_fingerprint(
            manifest,
            prompt=options.prompt,
            dimensions=options.dimensions,
            normalize=options.normalize,
        )
        if len(options.prompt or "") <= _LONGEST_PROMPT:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = manifest, found
        return found
