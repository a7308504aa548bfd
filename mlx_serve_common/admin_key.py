"""The admin key in a file of its own, which is easier to keep to oneself than a configuration.

Invariants: a key that others can read or have written is none; no message shows it.
"""

import os
from pathlib import Path

from mlx_serve_common.plain_file import read_plain
from mlx_serve_common.settings import ConfigError, Layer, Setting, checked

_NAME = "server.admin_key"
_LONGEST = 4096


def read_admin_key(path: Path) -> Layer:
    """The key as a setting; ConfigError if the file is not one person's secret."""
    source = str(path)
    try:
        content, found = read_plain(path, _LONGEST)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=source) from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        message = f"this key is not yours alone: chown it to yourself and chmod 600 {path}"
        raise ConfigError(message, source=source)
    text = content.decode("ascii", errors="replace").strip()
    return {_NAME: checked(_NAME, Setting(text, source))}
