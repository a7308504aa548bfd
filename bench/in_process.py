"""The same work without a server: a process that computes what it is told and tells the seconds.

``python -m bench.in_process EMBEDDER RERANKER CHAT`` reads one ``Task`` a line and answers each
with seconds: the limit that serving is compared with, on the same machine in the same minute.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from unittest.mock import patch

import msgspec

from bench.models import ROOT, Models
from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import Batch, Embed, Part, Rejected, Rerank, Result
from mlx_serve_gateway.worker_env import worker_environment
from mlx_serve_worker.backend import Backend, Prepared


class EmbedTask(msgspec.Struct, tag="embed"):
    texts: list[str]
    at_a_time: int
    in_one_pass: bool = False
    """So many texts as they come are one forward pass, however much of it is padding."""
    padded: bool = False
    """And all layers compute the padding, which ours leave to attention alone on a CPU."""


class RerankTask(msgspec.Struct, tag="rerank"):
    query: str
    documents: list[str]


class ChatTask(msgspec.Struct, tag="chat"):
    prompts: list[str]
    tokens: int


Task = EmbedTask | RerankTask | ChatTask


class InProcess:
    """Such processes, for whoever asks: one that computes chats as a worker for chat models would,
    and one for the rest, each started when it is first asked."""

    def __init__(self, models: Models) -> None:
        self._command = (
            sys.executable, "-m", "bench.in_process",
            str(models.store / "embedder"), str(models.store / "reranker"), str(models.chat),
        )  # fmt: skip
        self._processes: dict[bool, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def seconds(self, task: Task) -> float:
        is_chat = isinstance(task, ChatTask)
        if is_chat not in self._processes:
            self._processes[is_chat] = await self._start(is_chat)
        process = self._processes[is_chat]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        answer = await process.stdout.readline()
        if not answer:
            raise RuntimeError("the in-process measurement has ended; its error is above")
        return float(answer)

    async def _start(self, is_chat: bool) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=worker_environment(is_chat=is_chat) | {"PYTHONPATH": str(ROOT)},
        )


# --- in that process -----------------------------------------------------------------------------


class _Engines:
    def __init__(self, embedder: str, reranker: str, chat: str) -> None:
        from mlx_serve_worker.backends.encoder import EncoderBackend
        from mlx_serve_worker.backends.reranker import RerankerBackend

        self._encoder = EncoderBackend(Path(embedder))
        self._embed = loaded(self._encoder)
        self._rerank = loaded(RerankerBackend(Path(reranker)))
        self._chat_folder = Path(chat)
        self._chat_model: Any = None
        self._chat_tokenizer: Any = None

    def run(self, task: Task) -> float:
        if isinstance(task, ChatTask) and self._chat_model is None:
            self._load_chat()
        started = perf_counter()
        match task:
            case EmbedTask(texts, at_a_time, in_one_pass, padded):
                for at in range(0, len(texts), at_a_time):
                    some = texts[at : at + at_a_time]
                    part = embed_part(some)
                    if in_one_pass:
                        self._pass(part, padded)
                    else:
                        self._embed(part)
            case RerankTask(query, documents):
                ids = list(range(len(documents)))
                self._rerank(Rerank(ids, query, documents, None, "right"))
            case ChatTask():
                self._chat(task)
        return perf_counter() - started

    def _pass(self, part: Embed, padded: bool) -> None:
        from mlx_serve_worker.models import bert
        from mlx_serve_worker.models.token_rows import Padded

        prepared: list[Prepared] = []
        for each in self._encoder.prepare(part):
            if isinstance(each, ServeError):
                raise each  # what is left out would count as computed
            prepared.append(each)
        with patch.object(bert, "token_rows", lambda _: Padded()) if padded else nullcontext():
            self._encoder.forward(prepared)

    def _load_chat(self) -> None:
        from mlx_lm.utils import load

        self._chat_model, self._chat_tokenizer, *_ = load(str(self._chat_folder))

    def _chat(self, task: ChatTask) -> None:
        from mlx_lm.generate import BatchGenerator

        generator: Any = BatchGenerator(self._chat_model, stop_tokens=[])
        # With all that the model's template puts around it, as a server reads it.
        prompts = [
            self._chat_tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True
            )
            for prompt in task.prompts
        ]
        generator.insert(prompts, max_tokens=[task.tokens] * len(prompts))
        left = len(prompts)
        while left:
            _, said = generator.next()
            left -= sum(each.finish_reason is not None for each in said)
        generator.close()


def embed_part(texts: list[str]) -> Embed:
    return Embed(list(range(len(texts))), texts, "base64", "right")


def loaded(backend: Backend) -> Callable[[Part], None]:
    """What a worker does with a part, one thing after the other."""
    from mlx_serve_worker.compute import Compute
    from mlx_serve_worker.preparation import Preparation

    backend.load()
    preparation = Preparation(backend, emit=_check, is_cancelled=_never)
    compute = Compute(backend, max_items=32, max_tokens=None, emit=_check, is_cancelled=_never)
    return lambda part: compute.answer(preparation.inputs(Batch([part])))


def _never(_: int) -> bool:
    return False


def _check(result: Result) -> None:
    if isinstance(result, Rejected):
        raise RuntimeError(result.message)


def main(folders: Sequence[str]) -> None:
    engines = _Engines(*folders)
    decoder = msgspec.json.Decoder(Task)
    for line in sys.stdin.buffer:
        sys.stdout.write(f"{engines.run(decoder.decode(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
