"""What is known of an installed model, as lines for people."""

from datetime import UTC, datetime

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import (
    Dense,
    InstalledModel,
    Manifest,
    ModelKind,
    Pooling,
    Step,
    Verified,
)
from mlx_serve_gateway.cli.chat_facts import chat_lines
from mlx_serve_gateway.cli.quality import quality_lines
from mlx_serve_gateway.cli.units import age_text, size_text

Lines = list[tuple[str, str]]

_SHOWN_PROMPT = 60


def fact_lines(model: InstalledModel) -> Lines:
    manifest = model.manifest
    return [
        ("name", manifest.name),
        ("type", str(manifest.kind)),
        ("architecture", _architecture(manifest)),
        *_known("source", manifest.source),
        *_known("revision", manifest.revision),
        ("installed", age_text(manifest.created_at, datetime.now(UTC))),
        ("size", size_text(manifest.size_bytes)),
        ("weights", f"{size_text(manifest.weights_bytes)}, {_precision(manifest)}"),
        *quality_lines(manifest),
        *_known("dimensions", manifest.dimensions),
        *_known("max tokens", manifest.max_tokens),
        *chat_lines(manifest.chat),
        *_known("pipeline", ", ".join(map(_step, manifest.pipeline))),
        *_prompts(manifest),
        *_fingerprint(manifest),
        *verified_lines(manifest.verified),
        *_named("decided", [f"{what}: {how}" for what, how in sorted(manifest.decided.items())]),
        ("path", str(model.path)),
    ]


def verified_lines(verified: Verified | None) -> Lines:
    if verified is None:
        return [("verified", "no; `mlx-serve verify` does it")]
    outcome = "passed" if verified.passed else "FAILED"
    age = age_text(verified.when, datetime.now(UTC))
    return _named(
        "verified",
        [
            f"{outcome} on {verified.device}, {age}",
            *verified.problems,
            *_checks(verified),
            *(f"not checked: {what}" for what in verified.not_checked),
        ],
    )


def _checks(verified: Verified) -> list[str]:
    lines: list[str] = []
    if verified.finite is not None:
        lines.append(f"finite: {_yes(verified.finite)}")
    if verified.batch_max_diff is not None:
        lines.append(f"alone or in a batch: differs by {verified.batch_max_diff:.1e} at most")
    if verified.step_max_diff is not None:
        lines.append(f"at once or token by token: differs by {verified.step_max_diff:.1e} at most")
    if verified.template_ok is not None:
        lines.append(f"chat template renders: {_yes(verified.template_ok)}")
    if verified.dimensions_ok is not None:
        lines.append(f"dimensions as declared: {_yes(verified.dimensions_ok)}")
    if verified.prompts_ok is not None:
        lines.append(f"prompts applied: {_yes(verified.prompts_ok)}")
    if (parity := verified.parity) is not None:
        line = f"{parity.reference}: differs by {parity.max_diff:.1e} at most"
        if parity.min_cosine is not None:
            line += f", least cosine {parity.min_cosine:.7f}"
        if parity.same_order is not None:
            line += f", same order: {_yes(parity.same_order)}"
        lines.append(line)
    return lines


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _known(name: str, value: object) -> Lines:
    return [] if value in (None, "") else [(name, str(value))]


def _named(name: str, lines: list[str]) -> Lines:
    return [(name if index == 0 else "", line) for index, line in enumerate(lines)]


def _architecture(manifest: Manifest) -> str:
    if manifest.implementation == "own":
        return manifest.architecture
    return f"{manifest.architecture} (code: {manifest.implementation})"


def _precision(manifest: Manifest) -> str:
    if manifest.quantization is None:
        return manifest.dtype or "-"
    told = (f"{key} {value}" for key, value in manifest.quantization.items())
    return "quantized: " + ", ".join(told)


def _step(step: Step) -> str:
    match step:
        case Pooling(modes, include_prompt):
            without = "" if include_prompt else " without the prompt"
            return f"{' + '.join(modes)} pooling{without}"
        case Dense():
            return f"dense ({step.activation})"
        case _:
            return "normalize"


def _prompts(manifest: Manifest) -> Lines:
    lines = []
    for name, text in sorted(manifest.prompts.items()):
        shown = text if len(text) <= _SHOWN_PROMPT else text[: _SHOWN_PROMPT - 1] + "…"
        default = " (default)" if name == manifest.default_prompt else ""
        lines.append(f"{name}{default}: {shown!r}")
    return _named("prompts", lines)


def _fingerprint(manifest: Manifest) -> Lines:
    if manifest.kind is not ModelKind.EMBEDDING:
        return []
    return [("fingerprint", index_fingerprint(manifest))]
