"""``python library.py NAME MODEL ROUNDS``: seconds that a library takes, without any server.

Run in an environment that has it; reads a JSON list of texts, writes a JSON list of seconds.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

Embed = Callable[[list[str]], Any]


def mlx_serve(model: str) -> Embed:
    from bench.in_process import embed_part, loaded
    from mlx_serve_worker.backends.encoder import EncoderBackend

    embed = loaded(EncoderBackend(Path(model)))
    return lambda texts: embed(embed_part(texts))


def sentence_transformers(model: str) -> Embed:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    return lambda texts: encoder.encode(texts, normalize_embeddings=True)


def mlx_embeddings(model: str) -> Embed:
    import mlx.core as mx
    from mlx_embeddings import generate, load

    encoder, tokenizer = load(model)
    return lambda texts: mx.eval(generate(encoder, tokenizer, texts).text_embeds)


LIBRARIES = {each.__name__: each for each in (mlx_serve, sentence_transformers, mlx_embeddings)}


def main(name: str, model: str, rounds: int) -> None:
    embed, texts = LIBRARIES[name](model), json.load(sys.stdin)
    found = []
    for _ in range(1 + rounds):
        started = perf_counter()
        embed(texts)
        found.append(perf_counter() - started)
    # The first is for nothing: code is warm after it.
    sys.stdout.write(json.dumps(found[1:]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
