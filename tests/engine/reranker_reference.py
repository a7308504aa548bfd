"""What transformers and sentence-transformers say of the tiny rerankers, for the golden files.

Needs torch: only scripts/golden imports this.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.engine import tiny_judges, tiny_rerankers
from tests.engine.tiny_rerankers import MAX_TOKENS, PAIRS

Json = dict[str, Any]

# As the model card of Qwen3-Reranker has them.
_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and"
    ' the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_DEFAULT = "Given a web search query, retrieve relevant passages that answer the query"
_NEAR = 2e-5


def cross_encoders() -> Json:
    found: Json = {}
    for name, layout in tiny_rerankers.LAYOUTS.items():
        with tempfile.TemporaryDirectory() as made:
            folder = tiny_rerankers.build(layout, Path(made))
            prompt = tiny_rerankers.prompt(layout)
            found[name] = _classified(folder, [(prompt + query, text) for query, text in PAIRS])
            _check_predictions(folder, found[name], layout.labels)
    return found


def _classified(folder: Path, pairs: Sequence[tuple[str, str]]) -> Json:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # In the type that we compute in on a CPU, whatever the weights are stored in.
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    counts, logits = [], []
    for pair in pairs:
        # As a list of one: a second text that is empty is left out otherwise.
        encoded = tokenizer(
            [pair], truncation="only_second", max_length=MAX_TOKENS, return_tensors="pt"
        )
        counts.append(encoded["input_ids"].shape[1])
        with torch.no_grad():
            logits.append(model(**encoded).logits[0].tolist())
    return {"token_counts": counts, "logits": logits}


def _check_predictions(folder: Path, found: Json, labels: int) -> None:
    """That a CrossEncoder makes the same of those pairs that both leave whole."""
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    whole = [at for at, count in enumerate(found["token_counts"]) if count < MAX_TOKENS]
    activation = torch.nn.Identity()
    predicted = model.predict([PAIRS[at] for at in whole], activation_fn=activation)
    expected = torch.tensor([found["logits"][at] for at in whole]).squeeze()
    assert predicted.shape == expected.shape, (predicted.shape, labels)
    assert abs(torch.tensor(predicted) - expected).max() < _NEAR, folder


def judges() -> Json:
    found: Json = {}
    for name, layout in tiny_judges.LAYOUTS.items():
        with tempfile.TemporaryDirectory() as made:
            found[name] = _judged(tiny_judges.build(layout, Path(made)))
    return found


def _judged(folder: Path) -> Json:
    """The code of the model card, but for the batch, which need not be padded."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    prefix, suffix = (
        tokenizer.encode(text, add_special_tokens=False) for text in (_PREFIX, _SUFFIX)
    )
    counts, scores, differences = [], [], []
    for instruction, query, document in tiny_judges.PAIRS:
        text = f"<Instruct>: {instruction or _DEFAULT}\n<Query>: {query}\n<Document>: {document}"
        middle = tokenizer(
            text,
            truncation="longest_first",
            max_length=tiny_judges.MAX_TOKENS - len(prefix) - len(suffix),
        )
        ids = prefix + middle["input_ids"] + suffix
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        pair = torch.stack([logits[no], logits[yes]])
        counts.append(len(ids))
        differences.append((pair[1] - pair[0]).item())
        scores.append(torch.nn.functional.log_softmax(pair, dim=0)[1].exp().item())
    return {"token_counts": counts, "logits": differences, "scores": scores}
