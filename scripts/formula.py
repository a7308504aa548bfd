"""formula.py OWNER/NAME VERSION ARCHIVE: the Homebrew formula for a source archive, on stdout."""

import hashlib
import re
import sys
from pathlib import Path

FORMULA = Path(__file__).resolve().parent.parent / "deploy/homebrew/Formula/mlx-serve.rb"


def filled(formula: str, repository: str, version: str, archive: Path) -> str:
    home = f"https://github.com/{repository}"
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    values = {
        "homepage": home,
        "url": f"{home}/releases/download/v{version}/{archive.name}",
        "sha256": digest,
    }
    for key, value in values.items():
        formula, count = re.subn(rf'^  {key} ".*"$', f'  {key} "{value}"', formula, flags=re.M)
        if count != 1:
            raise SystemExit(f"formula: {count} lines for {key}, expected one")
    return formula


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or "/" not in arguments[0]:
        print(__doc__, file=sys.stderr)
        return 2
    repository, version, archive = arguments
    print(filled(FORMULA.read_text("utf-8"), repository, version, Path(archive)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
