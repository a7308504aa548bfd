"""What OpenAI's answers have in common: who answered, what it cost, how likely each token was."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlx_serve_common.chat import Finish, LikelyToken, SaidToken
from mlx_serve_common.models import InstalledModel


def heading(prefix: str, object: str, model: InstalledModel) -> dict[str, Any]:
    """The same in every piece of an answer."""
    return {
        "id": new_id(prefix),
        "object": object,
        "created": now(),
        "model": model.name,
        "system_fingerprint": _fingerprint(model),
    }


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(12)}"


def new_call_id() -> str:
    """Nine letters and digits: the call comes back in a later request, and templates of Mistral's
    take no other id.
    """
    return secrets.token_hex(5)[:9]


def _fingerprint(model: InstalledModel) -> str:
    """Another one when the model may answer otherwise: its weights are what was installed then."""
    manifest = model.manifest
    facts = (manifest.name, manifest.revision, manifest.created_at)
    return f"fp_{hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:10]}"


def usage(finishes: Sequence[Finish]) -> dict[str, Any]:
    """Of all answers to one prompt, which is counted once."""
    prompt = finishes[0].prompt_tokens
    completion = sum(finish.completion_tokens for finish in finishes)
    reasoning = sum(finish.reasoning_tokens for finish in finishes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": finishes[0].cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def likelihoods(tokens: Sequence[SaidToken]) -> dict[str, Any]:
    content = [
        _likely(said.token) | {"top_logprobs": list(map(_likely, said.top))} for said in tokens
    ]
    return {"content": content, "refusal": None}


def _likely(token: LikelyToken) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.bytes)}
