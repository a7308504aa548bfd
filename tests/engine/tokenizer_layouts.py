"""Layouts whose tokenizers are compared with the reference's, id by id.

The reference takes a tokenizer's class from one of several files, and the class may lay down other
rules than ``tokenizer.json`` has.
"""

from typing import Any

from tests.engine import tiny_encoders
from tests.engine.tiny_encoders import Layout

_AS_IT_IS: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
_NO_CLASS: dict[str, Any] = {"tokenizer_class": None}


def _layout(architecture: str, form: str = "", /, **tokenizer_config: Any) -> Layout:
    return Layout(architecture=architecture, form=form, tokenizer_config=tokenizer_config)


LAYOUTS: dict[str, Layout] = {
    "roberta": _layout("roberta"),
    "roberta-file-has-prefix-space": _layout("roberta", "prefix-space"),
    "roberta-class-has-prefix-space": _layout("roberta", add_prefix_space=True),
    "roberta-as-it-is": _layout("roberta", "prefix-space", **_AS_IT_IS),
    "roberta-no-class": _layout("roberta", "prefix-space", **_NO_CLASS),
    "xlm-roberta-plain": _layout("xlm-roberta", "plain"),
    "xlm-roberta-older": _layout("xlm-roberta", "older"),
    "xlm-roberta-newer": _layout("xlm-roberta", "newer"),
    "xlm-roberta-as-it-is": _layout("xlm-roberta", "plain", **_AS_IT_IS),
    "xlm-roberta-newer-as-it-is": _layout("xlm-roberta", "newer", **_AS_IT_IS),
    "xlm-roberta-no-class": _layout("xlm-roberta", "plain", **_NO_CLASS),
    "xlm-roberta-no-prefix-space": _layout("xlm-roberta", "newer", add_prefix_space=False),
    "xlm-roberta-other-class": _layout(
        "xlm-roberta", "plain", tokenizer_class="CamembertTokenizer"
    ),
    "xlm-roberta-lower-case": tiny_encoders.Layout(
        architecture="xlm-roberta", transformer={"max_seq_length": 60, "do_lower_case": True}
    ),
    "camembert": _layout("camembert", "newer"),
    "distilbert": _layout("distilbert"),
    "distilbert-cased": _layout("distilbert", do_lower_case=False),
    "distilbert-no-class": _layout("distilbert", **_NO_CLASS),
    "mpnet": _layout("mpnet"),
    "mpnet-accents": _layout("mpnet", do_lower_case=False, strip_accents=True),
    "mpnet-no-chinese": _layout("mpnet", tokenize_chinese_chars=False, strip_accents=False),
    "mpnet-as-it-is": _layout("mpnet", do_lower_case=False, **_AS_IT_IS),
    "modernbert": _layout("modernbert"),
    "modernbert-other-class": _layout("modernbert", tokenizer_class="RobertaTokenizer"),
    "nomic": _layout("nomic_bert"),
    "gemma": _layout("gemma3_text"),
    "gemma-as-it-is": _layout("gemma3_text", **_AS_IT_IS),
}
