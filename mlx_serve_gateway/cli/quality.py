"""What converting has cost a model, in words: for ``pull``, ``quantize`` and ``show``."""

from mlx_serve_common.models import Manifest, ModelKind, Quality
from mlx_serve_gateway.cli.output import emit_facts, note
from mlx_serve_gateway.cli.units import size_text

# Beyond these, what an index finds, or what a model says, changes visibly.
_GOOD_COSINE = 0.999
_GOOD_CORRELATION = 0.99
_GOOD_DIVERGENCE = 0.01


def tell_of_conversion(made: Manifest) -> None:
    emit_facts([("name", made.name), *quality_lines(made)])
    if said := advice(made):
        note(said)


def quality_lines(manifest: Manifest) -> list[tuple[str, str]]:
    """Names and facts of a model that was converted here; none of any other."""
    if manifest.converted_from is None:
        return []
    how = "converted from" if manifest.quantization is None else "quantized from"
    lines = [(how, f"{manifest.converted_from}, {_size(manifest)}")]
    if manifest.plain_layers:
        lines.append(("not quantized", _plain(manifest)))
    if manifest.quality is not None:
        lines.append(("quality", _quality(manifest.quality)))
    return lines


def advice(manifest: Manifest) -> str:
    """What a person should know before they use the model; "" if nothing."""
    quality = manifest.quality
    if quality is None or _is_good(quality):
        return ""
    bits = (manifest.quantization or {}).get("bits", 16)
    cost = "results will differ from the original's"
    if manifest.kind is ModelKind.EMBEDDING:
        cost += ", and their vectors do not belong in one index"
    if bits >= 8:
        return f"note: {cost}"
    return f"note: {cost}; 8 bits keep far more, and are the recommendation for small models"


def _size(manifest: Manifest) -> str:
    before, after = manifest.original_size or 0, manifest.quantized_size or 0
    share = 100 * after / max(1, before)
    return f"from {size_text(before)} to {size_text(after)} ({share:.0f}%)"


def _plain(manifest: Manifest) -> str:
    count = manifest.plain_layers
    layers = "1 layer, whose" if count == 1 else f"{count} layers, whose"
    group_size = (manifest.quantization or {}).get("group_size")
    return f"{layers} size does not divide into groups of {group_size}"


def _quality(quality: Quality) -> str:
    parts: list[str] = []
    if quality.mean_cosine is not None:
        parts.append(f"cosine to the original {quality.mean_cosine:.4f} on average")
    if quality.min_cosine is not None:
        parts.append(f"{quality.min_cosine:.4f} at least")
    if quality.mean_score_diff is not None:
        parts.append(f"scores differ by {quality.mean_score_diff:.4f} on average")
    if quality.max_score_diff is not None:
        parts.append(f"{quality.max_score_diff:.4f} at most")
    if quality.rank_correlation is not None:
        parts.append(f"rank correlation {quality.rank_correlation:.4f}")
    if quality.same_token is not None:
        parts.append(f"the original's next token in {100 * quality.same_token:.1f}%")
    if quality.mean_divergence is not None:
        parts.append(f"divergence of its probabilities {quality.mean_divergence:.4f} nats")
    what = "texts" if quality.mean_score_diff is None else "pairs"
    return f"{', '.join(parts)} ({quality.texts} {what})"


def _is_good(quality: Quality) -> bool:
    cosine = 1.0 if quality.mean_cosine is None else quality.mean_cosine
    correlation = 1.0 if quality.rank_correlation is None else quality.rank_correlation
    divergence = quality.mean_divergence or 0.0
    return (
        cosine >= _GOOD_COSINE
        and correlation >= _GOOD_CORRELATION
        and divergence <= _GOOD_DIVERGENCE
    )
