"""A person with a new home folder, who types what a page shows.

Where the page says port 8000 a free one is taken, and models come from a stand-in of the hub.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.docs.markdown import ROOT, Block

_PORT = "8000"
_PYTHON = shlex.quote(sys.executable)
# The block's number is left behind, so that a shell that ends early tells where.
_BLOCK = "echo {number} >$SAID/at\n{{\n{code}\n}} >$SAID/{number}\n"
_IN_BACKGROUND = """echo {number} >$SAID/at
{{
{code}
}} >$SAID/{number} &
until grep -q 'is running' $SAID/{number}; do kill -0 $!; sleep 0.02; done
"""
_LIMIT_S = 55


class Terminal:
    def __init__(self, home: Path, hub: dict[str, str], path: Iterable[Path] = ()) -> None:
        self._home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        ours = {name: text for name, text in os.environ.items() if "MLX_SERVE" not in name}
        self._env = {
            **ours,
            **hub,
            "HOME": str(home),
            "MLX_SERVE_HOST": "127.0.0.1",
            "MLX_SERVE_PORT": self._port,
            "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]]),
        }
        # An answer that is an error ends the session, as a person would stop there.
        (home / ".curlrc").write_text("fail-with-body\n")

    def type(self, blocks: list[Block]) -> list[str]:
        """Run them in one shell, so that what one sets is there for the next; what each printed."""
        said = Path(tempfile.mkdtemp(dir=self._home))
        with (said / "errors").open("w") as errors:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", "".join(self._script(blocks))],
                cwd=ROOT,
                env={**self._env, "SAID": str(said)},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                timeout=_LIMIT_S,
            )
        if done.returncode != 0:
            at = int((said / "at").read_text())
            told = (said / str(at)).read_text() + (said / "errors").read_text()
            raise AssertionError(f"{blocks[at].code}\nended with {done.returncode}:\n{told}")
        texts = [(said / str(number)).read_text("utf-8") for number in range(len(blocks))]
        return [text.replace(self._port, _PORT) for text in texts]

    def _script(self, blocks: list[Block]) -> Iterator[str]:
        for number, block in enumerate(blocks):
            code = re.sub(rf"\b{_PORT}\b", self._port, block.code.strip())
            if block.language == "python":
                code = f"{_PYTHON} - <<'PYTHON'\n{code}\nPYTHON"
            form = _IN_BACKGROUND if block.mark == "runs in the background" else _BLOCK
            yield form.format(number=number, code=code)

    def close(self) -> None:
        """Nothing that was started stays."""
        stop = [sys.executable, "-P", "-m", "mlx_serve_gateway.cli.main", "stop", "--all"]
        subprocess.run(stop, env=self._env, check=True, capture_output=True, timeout=_LIMIT_S)


def says(text: str, shown: str) -> bool:
    """Whether that is what a page shows, in which ``…`` stands for anything."""
    pattern = ".*".join(re.escape(_plain(part)) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, _plain(text.strip()), re.DOTALL) is not None


def _plain(text: str) -> str:
    """Columns are as wide as what stands in them."""
    return re.sub(r" +", " ", re.sub(r" *\n", "\n", text))
