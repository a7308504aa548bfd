"""A stranger's model folder: read within limits, and refused for what could do harm.

Invariants: no path leaves the folder, no link is followed, nothing is executed; a JSON file that
asks for code to be run, or that is too large or broken, is an error and never ignored.
"""

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.undecodable import UNDECODABLE

MAX_JSON_BYTES = 64 * 1024**2
MAX_TEXT_BYTES = 64 * 1024
MAX_REPOSITORY_BYTES = 200 * 1024**3
MAX_FILES = 2000

_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_CODE_KEYS = ("auto_map", "model_file")
# By model_type, the class of theirs that we have written anew: real repositories cannot do without
# naming it. That code is never read, and no file of it is ever copied.
_REPLACED_CODE = {"nomic_bert": "NomicBertModel"}
# Their keys are tokens or tensors, which may have any name.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_UNSAFE_WEIGHTS = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz", ".h5", ".msgpack", ".onnx")


def unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)


def unsafe(message: str) -> ServeError:
    return ServeError(ErrorCode.UNSAFE_MODEL, message)


def safe_folder(name: object) -> str:
    """``name`` if it is a plain folder name, as every module of a model has one."""
    if not isinstance(name, str) or not _FOLDER.fullmatch(name):
        raise unfit(f"the folder name {str(name)[:80]!r} is not allowed")
    return name


class Repository:
    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise unfit("the source is not a folder")
        self.root = root

    def has(self, name: str) -> bool:
        """Whether there is such a file; anything but a plain one is an error."""
        path = self.root / name
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        # The source itself may be reached through a link, but nothing below it.
        if stat.S_ISLNK(mode) or (path.parent != self.root and path.parent.is_symlink()):
            raise unfit(f"{name} is a link; copy the folder with real files first (cp -RL)")
        if not stat.S_ISREG(mode):
            raise unfit(f"{name} is not a regular file")
        return True

    def size(self, name: str) -> int:
        return (self.root / name).lstat().st_size

    def text(self, name: str) -> str:
        """A small file of text, such as a template."""
        if self.size(name) > MAX_TEXT_BYTES:
            raise unfit(f"{name} is larger than {MAX_TEXT_BYTES // 1024} KiB")
        try:
            return (self.root / name).read_text(encoding="utf-8")
        except OSError as error:
            raise unfit(f"{name} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise unfit(f"{name} is not valid text") from None

    def json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file, None if there is no such file."""
        value = self._value(name)
        if value is not None and not isinstance(value, dict):
            raise unfit(f"{name} does not hold a JSON object")
        return value

    def json_list(self, name: str) -> list[Any] | None:
        value = self._value(name)
        if value is not None and not isinstance(value, list):
            raise unfit(f"{name} does not hold a JSON list")
        return value

    def _value(self, name: str) -> Any:
        if not self.has(name):
            return None
        if self.size(name) > MAX_JSON_BYTES:
            raise unfit(f"{name} is larger than {MAX_JSON_BYTES // 1024**2} MiB")
        try:
            return msgspec.json.decode((self.root / name).read_bytes())
        except OSError as error:
            raise unfit(f"{name} cannot be read: {error.strerror}") from None
        except UNDECODABLE:
            raise unfit(f"{name} is not valid JSON") from None

    def refuse_code(self) -> str:
        """Refuse a repository whose files name code of their own to be run.

        Returns which key was left unheeded because our own code stands in for what it names.
        """
        unheeded = ""
        for path in sorted([*self.root.glob("*.json"), *self.root.glob("*/*.json")]):
            name = path.relative_to(self.root).as_posix()
            if path.name in _VOCABULARIES or path.name.endswith(".index.json"):
                continue
            value = self._value(name)
            if path.name == "config.json" and _names_replaced_code(value):
                unheeded = f"{name}: auto_map"
                del value["auto_map"]
            if key := _code_key(value):
                raise unsafe(f"{name} has {key!r}: models that bring their own code are refused")
        return unheeded

    def refuse_without_safetensors(self, folder: str) -> None:
        if not (self.root / folder).is_dir():
            raise unfit(f"there is no folder {folder}")
        refuse_names_without_safetensors(path.name for path in (self.root / folder).iterdir())


def refuse_names_without_safetensors(names: Iterable[str]) -> None:
    """The same for the names of the files of a folder."""
    found = sorted(names)
    if any(name.endswith(".safetensors") for name in found):
        return
    if "adapter_config.json" in found:
        raise unfit("this is an adapter (PEFT), not a whole model; merge it into its base first")
    if any(name.endswith(".gguf") for name in found):
        raise unfit("GGUF files are not supported; use the repository with safetensors")
    if others := [name for name in found if name.endswith(_UNSAFE_WEIGHTS)]:
        raise unsafe(
            f"the weights are only there as {others[0]}, a format that can run code or that we"
            " do not read; convert them to safetensors"
        )
    raise unfit("there are no weights (*.safetensors)")


def _code_key(value: Any) -> str | None:
    parts = [value]  # and not by recursion: how deep the file is nested is the stranger's choice
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if named := next((key for key in _CODE_KEYS if part.get(key)), None):
                return named
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
    return None


def _names_replaced_code(config: Any) -> bool:
    if not isinstance(config, dict) or not isinstance(named := config.get("auto_map"), dict):
        return False
    written_anew = _REPLACED_CODE.get(str(config.get("model_type")))
    model = named.get("AutoModel")
    return isinstance(model, str) and model.rpartition(".")[2] == written_anew
