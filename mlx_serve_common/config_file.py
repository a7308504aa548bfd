"""Reading ``config.yaml``: plain values by dotted key, each with the line it stands on.

Invariants: nothing in the file is ever executed or expanded (no tags beyond plain YAML, no
aliases); every way in which a file can be wrong is a ``ConfigError`` that names the line, and a
file that shows its key to others is wrong.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlx_serve_common.plain_file import read_plain
from mlx_serve_common.settings import (
    SECTIONS,
    ConfigError,
    Layer,
    Setting,
    checked,
    unknown_key,
)

# PyYAML needs about a second for this much; a real file has a few kilobytes.
MAX_FILE_BYTES = 128 * 1024

RENAMED = {"preload_models": "models.preload"}


class _Loader(yaml.SafeLoader):
    """Plain YAML with unique keys and no aliases, whose every error carries a position."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # A few nested aliases make a file of ten lines larger than memory once they are walked.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # PyYAML lets the int(), datetime() and re.match() of its constructors fail as they are.
            raise yaml.constructor.ConstructorError(
                None, None, f"not a valid value for its YAML type: {error}", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_line: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            key = self.construct_object(key_node)
            if key in first_line:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"'{key}' is given twice, first on line {first_line[key]}",
                    key_node.start_mark,
                )
            first_line[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _refuse_tag(loader: _Loader, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(
        None, None, f"the tag {node.tag} is not allowed", node.start_mark
    )


_Loader.add_constructor(None, _refuse_tag)


def read_config_file(path: Path) -> tuple[Layer, list[str]]:
    """The file's settings and warnings about it."""
    text, mode = _read_text(path)
    tree, lines = _parse(path, text)
    layer, warnings = _flattened(path, tree, lines)
    layer = {name: checked(name, setting) for name, setting in layer.items()}
    key = layer.get("server.admin_key")
    if key is not None and key.value is not None and mode & 0o077:
        message = f"this file holds a key and others can read or change it: chmod 600 {path}"
        raise key.refused("server.admin_key", message)
    if mode & stat.S_IWOTH:
        warnings.append(f"{path} can be changed by every user of this machine: chmod o-w {path}")
    return layer, warnings


def _read_text(path: Path) -> tuple[str, int]:
    source = str(path)
    try:
        content, found = read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=source) from None
    try:
        return content.decode("utf-8"), stat.S_IMODE(found.st_mode)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("not UTF-8; save the file as UTF-8", source=source, line=line) from None


def _parse(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    """The plain values of the file, and the line of every dotted path in them."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return {}, {}
        tree = loader.construct_document(root)
        return {} if tree is None else tree, dict(_lines(root, ""))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        problem = " ".join(part for part in (error.context, error.problem) if part)
        message = f"not usable YAML: {problem}"
        raise ConfigError(message, source=str(path), line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character U+{error.character:04X} is not allowed"
        raise ConfigError(message, source=str(path), line=line) from None
    except RecursionError:
        raise ConfigError("nested too deeply", source=str(path)) from None


def _lines(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else key.value
            yield below, key.start_mark.line + 1
            yield from _lines(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            below = f"{path}[{index}]"
            yield below, value.start_mark.line + 1
            yield from _lines(value, below)


def _flattened(path: Path, tree: Any, lines: dict[str, int]) -> tuple[Layer, list[str]]:
    source = str(path)
    if not isinstance(tree, dict):
        message = f"expected sections such as 'server:', got a {type(tree).__name__}"
        raise ConfigError(message, source=source, line=1)
    layer: Layer = {}
    warnings: list[str] = []

    def add(name: str, written: str, value: Any) -> None:
        if name in layer:
            message = f"given twice, first on line {layer[name].line}; keep {name}"
            raise ConfigError(message, source=source, line=lines.get(written), key=written)
        entries = {
            place.removeprefix(written): line
            for place, line in lines.items()
            if place.startswith((f"{written}[", f"{written}."))
        }
        layer[name] = Setting(value, source, lines.get(written), entries)

    for section, content in tree.items():
        line = lines.get(str(section))
        if section in RENAMED:
            name = RENAMED[section]
            warnings.append(f"{source}:{line}: {section} is deprecated; write {name} instead")
            add(name, section, content)
        elif section not in SECTIONS:
            message = unknown_key(str(section))
            raise ConfigError(message, source=source, line=line, key=str(section))
        elif isinstance(content, dict):
            for leaf, value in content.items():
                add(f"{section}.{leaf}", f"{section}.{leaf}", value)
        elif content is not None:  # a section whose keys are all commented out is null
            message = f"expected the keys of the section below it, got a {type(content).__name__}"
            raise ConfigError(message, source=source, line=line, key=section)
    return layer, warnings
