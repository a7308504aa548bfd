"""What a worker is to do: sent down its lifeline, after its secret.

Its only argument is the folder of its model, for whoever reads ``ps``, or ``SPARE``.
"""

import msgspec

SPARE = "spare"
"""Have everything imported that a chat model needs, before there is a model."""


class GenerationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What running answers may take of the machine."""

    max_sequences: int
    """So many are generated at the same time."""
    prefill_tokens: int | None
    """So much of new prompts is read between two steps of the running answers; None lets the
    backend choose for its device."""
    cache_bytes: int
    """Memory for what the model has read and said: running answers and earlier prompts together."""
    prompt_cache_bytes: int
    """So much of it at most is kept for earlier prompts."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a model, by what it may do with it."""

    widens: bool = False
    """Compute in float32 what is stored in less, where the device is slow at that."""
    generation: GenerationLimits | None = None
    """For a chat model."""


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """When the worker computes, where others share its device."""

    line: int | None
    """Its own on the board; None lets it compute whenever it likes."""
    workers: int | None
    """So many compute bulk loads at the same time; None lets the backend choose for its device."""
    patience_s: float
    """Longest wait for a turn."""


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    model_path: str
    socket: str
    max_batch_items: int
    max_batch_tokens: int | None = None
    """Padded tokens of one forward pass; None lets the backend choose for its device."""
    calibrate: bool = False
    """Measure which budget suits, where none is given."""
    custom_models: str | None = None
    """The folder of the person's own architectures."""
    allowance: Allowance = Allowance()
    turns: Turns | None = None
