"""One configured value: the key it is for, the place it comes from, the error that names both.

Invariants: a ``Setting`` that went through ``checked`` holds a value of its key's type; no message
shows a secret or breaks its line.
"""

import difflib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import msgspec

from mlx_serve_common.config import Config, parse_size
from mlx_serve_common.logs import escape

_SHOWN = 80
_IN_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "int | null": "a whole number or null",
    "int | str": "a whole number or text",
    "object": "a mapping",
    "str": "text",
    "str | null": "text or null",
}


class ConfigError(Exception):
    """The configuration is wrong, at this place: a file and line, a variable, or a flag."""

    def __init__(
        self, message: str, *, source: str | None = None, line: int | None = None, key: str = ""
    ) -> None:
        self.message = message
        self.source = source
        self.line = line
        self.key = key
        place = source if line is None else f"{source}:{line}"
        told = ": ".join(part for part in (place, key[:_SHOWN], message) if part)
        super().__init__(escape(told))


class Key(msgspec.Struct, frozen=True):
    """One key of the configuration tree."""

    name: str
    type: Any
    default: Any
    description: str
    choices: tuple[str, ...]
    is_list: bool
    is_mapping: bool
    is_size: bool
    is_path: bool
    is_secret: bool


def _keys() -> Iterator[Key]:
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            metas = [meta for meta in field.type.__metadata__ if isinstance(meta, msgspec.Meta)]
            extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
            bare = get_args(field.type)[0]
            yield Key(
                name=f"{section.name}.{field.name}",
                type=field.type,
                default=getattr(section.type(), field.name),
                description=next(meta.description for meta in metas if meta.description),
                choices=get_args(bare) if get_origin(bare) is Literal else (),
                is_list=get_origin(bare) is tuple,
                is_mapping=get_origin(bare) is dict,
                is_size="unit" in extra,
                is_path="path" in extra,
                is_secret="secret" in extra,
            )


KEYS = {key.name: key for key in _keys()}
SECTIONS = tuple(field.name for field in msgspec.structs.fields(Config))


class Setting(msgspec.Struct, frozen=True):
    """A value and where it was given; ``source`` is a file, a variable's name, or a flag."""

    value: Any
    source: str
    line: int | None = None
    # Lines of the entries of a list or mapping, by what follows the key: "[2]" or ".name".
    entry_lines: Mapping[str, int] = MappingProxyType({})

    @property
    def origin(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def refused(self, name: str, message: str, entry: str = "") -> ConfigError:
        line = self.entry_lines.get(entry, self.line)
        return ConfigError(message, source=self.source, line=line, key=name + entry)


Layer = dict[str, Setting]


def checked(name: str, setting: Setting, *, strict: bool = True) -> Setting:
    """The setting with its value converted to the key's type; without ``strict``, from text."""
    key = KEYS.get(name)
    if key is None:
        raise setting.refused(name, unknown_key(name))
    value = setting.value
    try:
        if value is False and "off" in key.choices:
            value = "off"  # what YAML makes of a bare off
        if isinstance(value, str):
            value = _from_text(key, value)
        value = msgspec.convert(value, key.type, strict=strict)
    except (msgspec.ValidationError, ValueError) as error:
        entry, wrong = _wrong_entry(key, value, strict)
        raise setting.refused(name, _told(key, wrong, str(error)), entry) from None
    return msgspec.structs.replace(setting, value=value)


def _from_text(key: Key, text: str) -> Any:
    """Size strings become bytes, and a choice may be written in any case."""
    if key.is_size and text != "auto":
        return parse_size(text)
    return {choice.lower(): choice for choice in key.choices}.get(text.lower(), text)


def _wrong_entry(key: Key, value: Any, strict: bool) -> tuple[str, Any]:
    """The refused entry of a list or mapping, with its suffix; else the value itself."""
    entries: list[tuple[str, Any, Any]]
    if key.is_list and isinstance(value, list):
        entries = [(f"[{index}]", item, [item]) for index, item in enumerate(value)]
    elif key.is_mapping and isinstance(value, dict):
        entries = [
            (f".{name}", item if isinstance(name, str) else name, {name: item})
            for name, item in value.items()
        ]
    else:
        return "", value
    for entry, item, part in entries:
        try:
            msgspec.convert(part, key.type, strict=strict)
        except msgspec.ValidationError:
            return entry, item
    return "", value


def _told(key: Key, value: Any, reason: str) -> str:
    """msgspec's reason in a reader's words: what was expected, what was got, what the key is."""
    expected = reason.partition(" - at `")[0].partition(", got `")[0]
    for type_name, words in _IN_WORDS.items():
        expected = expected.replace(f"`{type_name}`", words)
    if key.choices:
        expected = f"expected one of {', '.join(key.choices)}"
    elif expected.startswith("Invalid enum value"):
        expected = "expected a whole number or auto"
    elif " matching regex " in reason:
        expected = "not in the right form"
    got = "a value that is not shown" if key.is_secret else _shown(value)
    return f"{expected[:1].lower()}{expected[1:]}, got {got} ({key.description})"


def _shown(value: Any) -> str:
    # As the file has them, not as Python has.
    words = {None: "null", True: "true", False: "false"}
    text = next((word for same, word in words.items() if value is same), repr(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def unknown_key(name: str) -> str:
    """What to say about a key that does not exist."""
    section, dot, leaf = name.partition(".")
    if dot and section in SECTIONS:
        siblings = [key.partition(".")[2] for key in KEYS if key.startswith(f"{section}.")]
        known = f"the keys of {section} are {', '.join(siblings)}"
    else:
        leaf, siblings = section, list(SECTIONS)
        known = f"the sections are {', '.join(siblings)}"
    elsewhere = [key for key in KEYS if key.partition(".")[2] == leaf]
    guesses = difflib.get_close_matches(leaf, siblings, n=1) or elsewhere
    if guesses:
        return "unknown key; did you mean " + " or ".join(f"'{guess}'" for guess in guesses) + "?"
    return f"unknown key; {known}"
