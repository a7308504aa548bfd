"""Libraries that others want, and that are left out: what does without, and who gets them."""

from pathlib import Path

from tests.engine.chat.conversing import chat_model
from tests.engine.python import run_python

_ANSWER = """
import sys
from pathlib import Path
from tests.engine.chat.conversing import answer, load, says
assert answer(load(Path(sys.argv[1])), says("hello")).text
heavy = {"transformers", "huggingface_hub", "torch", "httpx"}
print(sorted(heavy & set(sys.modules)))
from transformers import AutoTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from huggingface_hub import snapshot_download
print(AutoTokenizer.from_pretrained.__name__, PreTrainedTokenizerBase.encode.__name__)
"""

_LIBRARY = """
import transformers
from transformers import {names}
class Own(PreTrainedTokenizer): pass
AutoTokenizer.register(Own, fast_tokenizer_class=Own)
"""

_LEAVE_OUT = """
import sys
{before}
sys.path.insert(0, sys.argv[1])
from mlx_serve_worker.stand_ins import import_without
names = ("AutoTokenizer", "PreTrainedTokenizer")
library = import_without("library", {{"transformers": names}})
print(hasattr(library.AutoTokenizer, "from_pretrained"), "transformers" in sys.modules)
"""


def _found(folder: Path, names: str, before: str = "") -> str:
    (folder / "library.py").write_text(_LIBRARY.format(names=names))
    return run_python(_LEAVE_OUT.format(before=before), str(folder))


def test_a_chat_model_answers_without_them_and_they_can_be_had_afterwards(tmp_path: Path) -> None:
    told = run_python(_ANSWER, str(chat_model(tmp_path)))
    assert told == "[]\nfrom_pretrained encode\n"


def test_what_is_left_out_is_not_imported(tmp_path: Path) -> None:
    assert _found(tmp_path, "AutoTokenizer, PreTrainedTokenizer") == "False False\n"


def test_a_library_that_wants_more_gets_the_real_one(tmp_path: Path) -> None:
    wanted = "AutoTokenizer, PreTrainedTokenizer, AutoConfig"
    assert _found(tmp_path, wanted) == "True True\n"


def test_what_is_imported_already_stays(tmp_path: Path) -> None:
    wanted = "AutoTokenizer, PreTrainedTokenizer"
    assert _found(tmp_path, wanted, before="import transformers") == "True True\n"
