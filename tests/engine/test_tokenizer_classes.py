"""Token ids equal the reference's, whatever mixture of files says how text is split."""

import dataclasses
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_worker.tokenizer_file import load_tokenizer
from tests.engine import tiny_encoders
from tests.engine.edge_texts import EDGES, PAIR
from tests.engine.models import GOLDEN, manifested
from tests.engine.tokenizer_layouts import LAYOUTS

pytestmark = pytest.mark.engine


def made(name: str, folder: Path) -> Manifest:
    return manifested(tiny_encoders.build(LAYOUTS[name], folder))


@pytest.mark.parametrize("name", LAYOUTS)
def test_ids_equal_the_reference(name: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tmp_path, made(name, tmp_path))
    expected = json.loads((GOLDEN / "tokenizers.json").read_text())[name]
    for text, ids in zip(EDGES.values(), expected["ids"], strict=True):
        assert tokenizer.encode(text).ids == ids, text
    pair = tokenizer.encode(*PAIR)
    assert [pair.ids, pair.type_ids] == expected["pair"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("roberta", "tokenizer_config.json: RobertaTokenizer"),
        ("xlm-roberta-no-class", "model_type xlm-roberta: XLMRobertaTokenizer"),
        ("xlm-roberta-as-it-is", None),
        ("modernbert-other-class", None),
    ],
)
def test_class_is_told(name: str, rule: str | None, tmp_path: Path) -> None:
    assert made(name, tmp_path).decided.get("tokenizer") == rule


def test_class_in_the_models_own_configuration_counts_last(tmp_path: Path) -> None:
    made("xlm-roberta-no-class", tmp_path)
    path = tmp_path / "config.json"
    changed = {**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(changed))
    assert manifested(tmp_path).tokenizer is None
    made("xlm-roberta-other-class", tmp_path)
    found = manifested(tmp_path).tokenizer
    assert found is not None
    assert found.name == "CamembertTokenizer"


def test_tokens_that_the_file_does_not_mark_stand_for_themselves(tmp_path: Path) -> None:
    manifest = made("xlm-roberta-older", tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens": []}))
    tokenizer = load_tokenizer(tmp_path, manifest)
    assert 4 in tokenizer.encode("a <mask>").ids


def test_unknown_pieces_have_the_id_that_the_class_gives_them(tmp_path: Path) -> None:
    manifest = made("xlm-roberta-older", tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["unk_id"] = 0
    path.write_text(json.dumps(content))
    # As the reference: see scripts/golden for how these were made.
    assert load_tokenizer(tmp_path, manifest).encode("漢 a b").ids == [0, 5, 3, 125, 5, 38, 2]


def test_class_that_cannot_use_the_file_is_passed_over(tmp_path: Path) -> None:
    layout = dataclasses.replace(LAYOUTS["xlm-roberta-plain"], tokenizer_config={
        "tokenizer_class": "BertTokenizer"
    })  # fmt: skip
    manifest = manifested(tiny_encoders.build(layout, tmp_path))
    assert (manifest.tokenizer, manifest.normalizer) == (None, None)
    assert "as it is: it is not for a BertTokenizer" in manifest.decided["tokenizer"]
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path, manifest).encode(" a b ").ids == plain.encode(" a b ").ids


@pytest.mark.parametrize("name", ["roberta", "mpnet", "gemma"])
def test_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    manifest = made(name, tmp_path)
    (tmp_path / "other").mkdir()
    made("camembert", tmp_path / "other")
    with pytest.raises(ServeError, match="it lacks") as refused:
        load_tokenizer(tmp_path / "other", manifest)
    assert refused.value.code is ErrorCode.INVALID_MODEL


def test_file_without_the_tokens_around_a_text_is_refused(tmp_path: Path) -> None:
    manifest = made("distilbert", tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("[CLS]", "[CLX]"))
    with pytest.raises(ServeError, match=r"lacks the token '\[CLS\]'"):
        load_tokenizer(tmp_path, manifest)
