"""What two vectors must share to be comparable, as one short string.

An index that keeps it can refuse to mix vectors of different weights, quantization, pooling, prompt
or size, which no similarity score would reveal.
"""

import hashlib

import msgspec

from mlx_serve_common.models import Manifest, Normalize


def index_fingerprint(
    manifest: Manifest,
    *,
    prompt: str | None = None,
    dimensions: int | None = None,
    normalize: bool | None = None,
) -> str:
    """``prompt``, ``dimensions`` and ``normalize`` as in a request: None is the model's own."""
    weights = [
        record.sha256 for name, record in sorted(manifest.files.items()) if "safetensors" in name
    ]
    if prompt is None:
        prompt = manifest.prompts.get(manifest.default_prompt or "", "")
    if normalize is None:
        # A shortened vector is scaled to unit length again.
        normalize = dimensions is not None or manifest.pipeline[-1:] == [Normalize()]
    facts = (
        manifest.architecture,
        weights or manifest.revision,
        manifest.quantization,
        manifest.pipeline,
        prompt,
        dimensions or manifest.dimensions,
        normalize,
    )
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]
