"""A model in Ollama's words, from its manifest alone.

Ollama's own clients read these strictly: a missing ``model_info``, a time without a zone or a short
digest ends them.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind

# Of a number, and what Ollama calls it.
_DTYPES = {"float32": (4, "F32"), "float16": (2, "F16"), "bfloat16": (2, "BF16")}
_CAPABILITIES = {
    ModelKind.EMBEDDING: "embedding",
    ModelKind.RERANKER: "rerank",
    ModelKind.CHAT: "completion",
}
# Where Ollama has another name for it.
_PARAMETERS = {"repetition_penalty": "repeat_penalty"}


class ModelDetails(msgspec.Struct, kw_only=True):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


def details(manifest: Manifest) -> ModelDetails:
    return ModelDetails(
        parent_model=manifest.converted_from or "",
        format="safetensors",
        family=manifest.architecture,
        families=[manifest.architecture],
        parameter_size=_parameter_size(manifest),
        quantization_level=_quantization_level(manifest),
    )


def capabilities(manifest: Manifest) -> list[str]:
    found = [_CAPABILITIES[manifest.kind]]
    if manifest.chat is not None:
        found += ["tools"] if manifest.chat.does_tools else []
        found += ["thinking"] if manifest.chat.thinks else []
    return found


def template(manifest: Manifest) -> str:
    return (manifest.chat and manifest.chat.template) or ""


def parameters(manifest: Manifest) -> str:
    """A line for each setting that the model's publisher wants, as Ollama writes them."""
    if manifest.chat is None:
        return ""
    stated = msgspec.to_builtins(manifest.chat.defaults)
    return "\n".join(f"{_PARAMETERS.get(name, name):<30} {value}" for name, value in stated.items())


def digest(manifest: Manifest) -> str:
    """The same as long as the files are: in hexadecimal, without a prefix."""
    files = sorted((name, record.sha256) for name, record in manifest.files.items())
    # A model without files is a test's; its name has to do.
    return hashlib.sha256(msgspec.json.encode(files or manifest.name)).hexdigest()


def modified_at(manifest: Manifest) -> str:
    when = datetime.fromisoformat(manifest.created_at)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).isoformat()


def model_info(model: InstalledModel) -> dict[str, Any]:
    """``general.*`` and ``<architecture>.*`` as Ollama has them; what it has no key for is ours."""
    manifest = model.manifest
    family = manifest.architecture
    facts = {
        "general.architecture": family,
        "general.basename": manifest.name,
        "general.parameter_count": parameter_count(manifest),
        "general.source.repository": manifest.source,
        "general.source.revision": manifest.revision,
        f"{family}.context_length": manifest.max_tokens,
        f"{family}.embedding_length": _width(manifest),
        "mlx_serve.type": manifest.kind,
        "mlx_serve.implementation": manifest.implementation,
        "mlx_serve.dtype": manifest.dtype,
        "mlx_serve.quantization": manifest.quantization,
        "mlx_serve.prompts": manifest.prompts or None,
        "mlx_serve.default_prompt": manifest.default_prompt,
        "mlx_serve.conversion": manifest.conversion,
        "mlx_serve.converted_from": manifest.converted_from,
        "mlx_serve.original_size": manifest.original_size,
        "mlx_serve.quantized_size": manifest.quantized_size,
        "mlx_serve.plain_layers": manifest.plain_layers,
        "mlx_serve.pipeline": manifest.pipeline or None,
        "mlx_serve.head": manifest.head,
        "mlx_serve.fingerprint": _fingerprint(manifest),
        "mlx_serve.decided": manifest.decided or None,
        "mlx_serve.quality": manifest.quality,
        "mlx_serve.verified": manifest.verified,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _fingerprint(manifest: Manifest) -> str | None:
    return index_fingerprint(manifest) if manifest.kind is ModelKind.EMBEDDING else None


def _width(manifest: Manifest) -> int | None:
    return manifest.dimensions if manifest.chat is None else manifest.chat.width


def parameter_count(manifest: Manifest) -> int | None:
    """None where nobody has counted and the size of the weights, being quantized, does not tell."""
    if manifest.chat is not None:
        return manifest.chat.parameters
    dtype = _DTYPES.get(manifest.dtype or "")
    if dtype is None or manifest.quantization is not None or not manifest.weights_bytes:
        return None
    return manifest.weights_bytes // dtype[0]


def _parameter_size(manifest: Manifest) -> str:
    count = parameter_count(manifest)
    if count is None:
        return ""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)


def _quantization_level(manifest: Manifest) -> str:
    if manifest.quantization is None:
        dtype = manifest.dtype or ""
        return _DTYPES[dtype][1] if dtype in _DTYPES else dtype
    mode = manifest.quantization.get("mode", "affine")
    return str(mode) if mode != "affine" else f"{manifest.quantization.get('bits')}bit"
