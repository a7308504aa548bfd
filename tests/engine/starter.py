"""The starter model, where scripts/starter has put it, and the texts it is compared on."""

from pathlib import Path

_FOLDER = Path(__file__).parents[2] / ".venv/share/starter/all-MiniLM-L6-v2"

TEXTS = {
    "short": "Hello world",
    "empty": "",
    "korean": "서울의 날씨는 오늘 맑고 따뜻합니다.",
    "emoji": "I ❤️ Crème brûlée 🍮👍🏽",
    "cut": "A vector database finds what a reader means, not what a reader wrote. " * 24,
}


def folder() -> Path | None:
    return _FOLDER if (_FOLDER / "model.safetensors").exists() else None
