"""The configuration: one tree of frozen structs that is schema, defaults and documentation.

Invariants: every key is one level below a section and has a one-line description; a default needs
no conversion; unknown keys are errors. A relative path lies below the home folder. Where a value
comes from is the business of ``config_layers``.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_YEAR_S = 31_536_000

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000)]
# The upper bounds also refuse infinity, which a timer cannot count down.
Seconds = Annotated[float, Meta(gt=0, le=_YEAR_S)]
Bytes = Annotated[int, Meta(ge=1, le=2**50)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^\S(.*\S)?$")]
PathText = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00]+$")]
# What an Authorization header can carry; no trailing newline either, which "$" alone would let by.
AdminKey = Annotated[str, Meta(min_length=8, max_length=512, pattern=r"^[!-~]+(?!\n)$")]
HostName = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[^\s/]+$")]
WebOrigin = Annotated[str, Meta(max_length=512, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/*]+$")]

SIZE = {"unit": "bytes"}
PATH = {"path": True}
SECRET = {"secret": True}


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, and strict about its keys."""


class ServerConfig(Section, frozen=True):
    host: Annotated[HostName, Meta(description="Address to listen on")] = "0.0.0.0"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes any free one")
    ] = 8000
    control_plane: Annotated[
        Literal["loopback", "key", "off"],
        Meta(
            description="Who may manage the server over HTTP: this machine and who has the key, "
            "only who has the key, or nobody; our own commands on this machine always may"
        ),
    ] = "loopback"
    admin_key: Annotated[
        AdminKey | None,
        Meta(
            description="Key for managing the server from other hosts, 8 printable characters or "
            "more",
            extra=SECRET,
        ),
    ] = None
    allowed_hosts: Annotated[
        tuple[HostName, ...], Meta(description="Host names to answer to, besides this machine's")
    ] = ()
    allowed_origins: Annotated[
        tuple[WebOrigin, ...],
        Meta(description="Web pages that may call the server, such as https://app.example"),
    ] = ()


class ModelsConfig(Section, frozen=True):
    directory: Annotated[
        PathText, Meta(description="Folder of the installed models", extra=PATH)
    ] = "models"
    preload: Annotated[tuple[Name, ...], Meta(description="Models to load at start")] = ()
    pin: Annotated[tuple[Name, ...], Meta(description="Models that are never unloaded")] = ()
    aliases: Annotated[
        dict[Name, Name], Meta(description="Other names for models: name to model")
    ] = msgspec.field(default_factory=dict)
    default_embedding: Annotated[
        Name | None,
        Meta(description="Embedding model of a request that names none; else the only one"),
    ] = None
    default_reranker: Annotated[
        Name | None,
        Meta(description="Reranker of a request that names none; else the only one"),
    ] = None
    auto_download: Annotated[bool, Meta(description="Download models that are not installed")] = (
        True
    )
    auto_download_timeout: Annotated[
        Seconds, Meta(description="Seconds that a request waits for a download")
    ] = 300
    auto_download_on_request: Annotated[
        bool, Meta(description="Let a request start a download; false: only preload and pull do")
    ] = True


class CacheConfig(Section, frozen=True):
    max_embedding_models: Annotated[
        CountOrNone, Meta(description="Embedding models loaded at the same time")
    ] = 3
    max_reranker_models: Annotated[
        CountOrNone, Meta(description="Rerankers loaded at the same time")
    ] = 2
    max_chat_models: Annotated[
        CountOrNone, Meta(description="Chat models loaded at the same time")
    ] = 1
    ttl_seconds: Annotated[
        Seconds, Meta(description="Seconds after its last use until a model is unloaded")
    ] = 1800
    memory_budget: Annotated[
        Bytes | Literal["auto"],
        Meta(description="Memory for all models: auto, bytes, or a size like 24GB", extra=SIZE),
    ] = "auto"


class BatchConfig(Section, frozen=True):
    max_batch_size: Annotated[
        Count, Meta(description="Most inputs computed in one forward pass")
    ] = 32
    max_wait_ms: Annotated[
        float,
        Meta(ge=0, le=10_000, description="Longest deliberate wait for a fuller batch; 0 is none"),
    ] = 0
    max_batch_tokens: Annotated[
        Count | Literal["auto"],
        Meta(
            description="Most tokens in one forward pass, padding by what it costs:"
            " auto or a number"
        ),
    ] = "auto"
    calibrate: Annotated[
        bool,
        Meta(
            description="Where max_batch_tokens is auto, measure once in idle time what suits the"
            " model on this device"
        ),
    ] = True
    computing_workers: Annotated[
        Count | Literal["auto"],
        Meta(
            description="Most models that compute bulk loads at the same time, giving way to"
            " whoever waits for an answer; auto: 1 on a GPU, any number on a CPU"
        ),
    ] = "auto"


class LimitsConfig(Section, frozen=True):
    truncate: Annotated[
        Literal["right", "left", "none"],
        Meta(description="Which end of a too long input is cut; none refuses it instead"),
    ] = "right"
    token_input: Annotated[
        Literal["cl100k_base", "model"],
        Meta(description="Whose token ids clients send: OpenAI's cl100k_base or the model's own"),
    ] = "cl100k_base"
    max_inputs: Annotated[Count, Meta(description="Most inputs in one request")] = 2048
    max_documents: Annotated[Count, Meta(description="Most documents in one rerank request")] = 1024
    max_queue_items: Annotated[
        Count, Meta(description="Most inputs waiting for one model; more are answered 429")
    ] = 4096
    max_body_bytes: Annotated[
        Bytes, Meta(description="Largest request body: bytes, or a size like 8MiB", extra=SIZE)
    ] = 8_388_608
    max_header_bytes: Annotated[
        Bytes, Meta(description="Largest headers of a request; more are answered 431", extra=SIZE)
    ] = 32_768
    max_connections: Annotated[
        Count, Meta(description="Most connections; one that is idle makes room for a new one")
    ] = 1024
    max_requests: Annotated[
        Count, Meta(description="Most requests answered at the same time; more are answered 429")
    ] = 512
    max_requests_per_peer: Annotated[
        Count, Meta(description="Most of them for one other host; this machine is not counted")
    ] = 64
    header_timeout: Annotated[
        Seconds, Meta(description="Seconds that the head of a request may take to arrive")
    ] = 5
    body_timeout: Annotated[
        Seconds,
        Meta(description="Seconds that its body may take; less than 1 KiB/s ends after a third"),
    ] = 30
    idle_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds until an idle connection is closed; behind a proxy more than"
            " what that keeps idle, such as 75"
        ),
    ] = 60
    request_timeout: Annotated[
        Seconds, Meta(description="Seconds until a request that still waits is answered 504")
    ] = 120
    load_timeout: Annotated[
        Seconds, Meta(description="Seconds until a model that is still loading is given up")
    ] = 300
    batch_timeout: Annotated[
        Seconds, Meta(description="Seconds without progress until a busy worker counts as hung")
    ] = 30
    drain_timeout: Annotated[
        Seconds, Meta(description="Seconds that a stop lets running requests finish")
    ] = 30


class MetricsConfig(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="Serve /metrics on the main port")] = True
    port: Annotated[Port | None, Meta(description="A second port for /metrics; null for none")] = (
        None
    )


class LoggingConfig(Section, frozen=True):
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Meta(description="Least severe level that is logged"),
    ] = "INFO"
    format: Annotated[
        Literal["text", "json"], Meta(description="One line of text or of JSON per record")
    ] = "text"


class ServiceConfig(Section, frozen=True):
    auto_start: Annotated[bool, Meta(description="Start the service at login")] = False
    restart_on_failure: Annotated[bool, Meta(description="Restart the service when it fails")] = (
        True
    )
    restart_delay: Annotated[
        float, Meta(ge=0, le=_YEAR_S, description="Seconds before such a restart")
    ] = 5


class ChatConfig(Section, frozen=True):
    default_model: Annotated[
        Name | None, Meta(description="Model of a chat request that names none")
    ] = None
    default_for_unknown: Annotated[
        bool,
        Meta(description="Use it as well for a name that is unknown; false answers 404"),
    ] = False
    max_sequences: Annotated[
        Count, Meta(description="Most answers that one model generates at the same time")
    ] = 32
    prefill_tokens: Annotated[
        Count | Literal["auto"],
        Meta(
            description="Most tokens of new prompts read between two steps of running answers:"
            " auto or a number; less keeps streams smoother"
        ),
    ] = "auto"
    spare: Annotated[
        bool,
        Meta(description="Keep a process ready, so that a chat model loads half a second sooner"),
    ] = True
    prompt_cache_bytes: Annotated[
        Annotated[int, Meta(ge=0, le=2**50)] | Literal["auto"],
        Meta(description="Memory for prompt reuse: auto, bytes, or a size like 2GB", extra=SIZE),
    ] = "auto"
    custom_models: Annotated[
        PathText, Meta(description="Folder of your own architectures", extra=PATH)
    ] = "custom_models"


class Config(Section, frozen=True):
    server: ServerConfig = ServerConfig()
    models: ModelsConfig = ModelsConfig()
    cache: CacheConfig = CacheConfig()
    batch: BatchConfig = BatchConfig()
    limits: LimitsConfig = LimitsConfig()
    metrics: MetricsConfig = MetricsConfig()
    logging: LoggingConfig = LoggingConfig()
    service: ServiceConfig = ServiceConfig()
    chat: ChatConfig = ChatConfig()


_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])(i?)b|b)?", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """``24GB``, ``1.5 GiB`` or ``4096`` in bytes; ValueError says what is accepted."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        # A bare "G" is refused: half of the tools read it as 10^9, the others as 2^30.
        raise ValueError("expected bytes, or a number with a unit such as 24GB or 8GiB")
    number, prefix, binary = match.groups()
    exponent = " kmgt".index((prefix or " ").lower())
    return int(Decimal(number) * (1024 if binary else 1000) ** exponent)


def conflicts(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that are right alone and wrong together, with what to do about it."""
    limits = config.limits
    if config.server.control_plane == "key" and config.server.admin_key is None:
        yield (
            ("server.control_plane",),
            "key needs one: set MLX_SERVE_ADMIN_KEY, or write it into admin.key of the home folder",
        )
    if config.metrics.port is not None and config.metrics.port == config.server.port:
        yield (
            ("metrics.port", "server.port"),
            "the main port already serves /metrics; leave metrics.port out or choose another",
        )
    if limits.max_inputs > limits.max_queue_items:
        yield (
            ("limits.max_queue_items", "limits.max_inputs"),
            "smaller than limits.max_inputs, so such a request could never be queued; set both",
        )
