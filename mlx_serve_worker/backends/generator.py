"""Chat models on mlx-lm: prompts in, answers out token by token, many at the same time.

Invariants: the manifest decides everything about the model, nothing is guessed from its files.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from mlx_serve_common.chat import Conversation
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import GenerationLimits
from mlx_serve_common.wire import Detokenize, Generate, Tokenize, TokenizeConversation
from mlx_serve_worker import device
from mlx_serve_worker.backend import Step, Tokens
from mlx_serve_worker.chat.answers import AnswerMaker, Wanted
from mlx_serve_worker.chat.batch import Batch
from mlx_serve_worker.chat.kept import Apart, AsItIs
from mlx_serve_worker.chat.loading import load
from mlx_serve_worker.chat.prompt_cache import PromptCache
from mlx_serve_worker.chat.room import Room, cost
from mlx_serve_worker.chat.schedule import Schedule
from mlx_serve_worker.chat.vocabulary import ChatVocabulary
from mlx_serve_worker.device import OnDevice

_MIB = 1024**2
_USUAL = GenerationLimits(
    max_sequences=16,
    prefill_tokens=None,
    cache_bytes=1024 * _MIB,
    prompt_cache_bytes=512 * _MIB,
)
"""For whoever starts a worker by hand."""


class GeneratorBackend(OnDevice):
    """Owned by the compute thread: MLX arrays belong to the thread that made them."""

    _words: ChatVocabulary
    _answers: AnswerMaker
    _prompts: PromptCache
    _schedule: Schedule

    def __init__(
        self,
        model_path: Path,
        custom_models: Path | None = None,
        limits: GenerationLimits | None = None,
        *,
        widens: bool = False,
    ) -> None:
        self._path = model_path
        self._custom_models = custom_models
        self._limits = limits or _USUAL
        self._widens = widens

    def load(self) -> None:
        loaded = load(self._path, self._custom_models, widens=self._widens)
        chat = loaded.manifest.chat
        if chat is None:
            message = "the manifest does not say how the model is talked to; install it again"
            raise ServeError(ErrorCode.INVALID_MODEL, message)
        self._words = ChatVocabulary(self._path, loaded.manifest, chat, loaded.model.vocab_size)
        self._answers = AnswerMaker(loaded.model, self._words, chat)
        limits, on_cpu = self._limits, not device.current().fuses
        self._prompts = PromptCache(
            min(limits.prompt_cache_bytes, limits.cache_bytes), Apart if on_cpu else AsItIs
        )
        self._schedule = Schedule(
            Batch(
                loaded.model,
                ends=self._words.ends,
                max_sequences=limits.max_sequences,
                prefill_tokens=limits.prefill_tokens or device.current().prefill_tokens,
                on_cpu=on_cpu,
            ),
            Room(cost(loaded.sample), limits.cache_bytes),
            self._prompts,
            make_cache=loaded.make_cache,
            max_sequences=limits.max_sequences,
        )

    def memory_bytes(self) -> int:
        return super().memory_bytes() + self._prompts.bytes_apart

    # --- texts and token ids ---------------------------------------------------------------------

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return self._words.texts.tokenize(part)

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return self._words.texts.detokenize(part)

    def tokenize_conversation(self, part: TokenizeConversation) -> list[Tokens | ServeError]:
        return [self._read(conversation) for conversation in part.conversations]

    def _read(self, conversation: Conversation) -> Tokens | ServeError:
        try:
            return Tokens(self._answers.read(conversation), [])
        except ServeError as error:
            return error

    def prepare(self, part: Generate) -> Sequence[Wanted | ServeError]:
        try:
            return self._answers.prepare(part.prompt, part.sampling, part.choices)
        except ServeError as error:
            return [error for _ in part.choices]

    # --- answers ---------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return self._schedule.is_idle

    def start(self, id: int, prepared: Wanted) -> None:
        self._schedule.add(self._answers.make(id, prepared))

    def stop(self, ids: Collection[int]) -> None:
        self._schedule.stop(ids)

    def patience_s(self) -> float:
        return self._schedule.patience_s()

    def step(self) -> Step:
        return self._schedule.step()
