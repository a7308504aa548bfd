"""The texts that every layout is compared on; the golden vectors belong to exactly these."""

TEXTS = {
    "short": "Hello world",
    "empty": "",
    "english": "The QUICK brown fox jumps over the lazy dog, then sleeps: 12.5% of its day!",
    "korean": "안녕하세요, 오늘 서울의 날씨는 맑고 따뜻합니다. 내일은 비가 옵니다.",
    "emoji": "Crème brûlée 🍮 naïve déjà-vu 👍🏽 👩‍👩‍👧 fin",
    "chinese": "漢字とかな混じりの文、测试。",
    "specials": "[CLS] a text [SEP] with [MASK] tokens [PAD] [UNK] inside",
    "blanks": "  \t spaces\u00a0and\n\nnew lines \u200b  ",
    "unknown": "x" * 101 + " \x00\ufffd ok",
    "long": "every good model counts its tokens before it reads them, and says so; " * 9,
}

SHORT = ["short", "empty", "emoji"]
"""Enough for a test that is about something else than text."""
