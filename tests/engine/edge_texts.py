"""Texts at the edges of what a tokenizer meets; the golden token ids belong to exactly these."""

# ruff: noqa: RUF001 - letters that look like others are the point

EDGES = {
    "empty": "",
    "blank": " ",
    "blanks": "   ",
    "leading": "  two blanks first",
    "trailing": "two blanks last  ",
    "inner": "two  blanks   and more    inside",
    "tabs": "a\tb\t\tc\td",
    "lines": "a\nb\r\nc\n\n\nd\u2028e\u0085f\x0bg\x0ch",
    "no-break": "a\u00a0b\u202fc\u2003d\u3000e",
    "zero-width": "a\u200bb\u200dc\u2060d\ufeffe\u00adf",
    "controls": "a\x00b\x01c\x1fd\x7fe\ufffdf",
    "accents": "Crème brûlée ÀÉÎÕÜ ﬁnd ①② Å",
    "combining": "e\u0301 a\u030a\u0323 n\u0303 \u0301",
    "cases": "STRASSE ẞ straße İstanbul ΣΊΣΥΦΟΣ ǅ",
    "korean": "안녕하세요 세계, 오늘 날씨는 맑고!",
    "jamo": "\u1112\u1161\u11ab\u1100\u116e\u11a8 ㅋㅋㅋ",
    "chinese": "漢字、測試文。混じりabc123の文",
    "thai": "สวัสดีชาวโลก",
    "arabic": "مرحبا بالعالم ١٢٣",
    "hebrew": "שָׁלוֹם עולם",
    "devanagari": "नमस्ते दुनिया",
    "emoji": "🙂👍🏽👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️ 1️⃣ 🇰🇷🍮",
    "numbers": "12.5% 1,000,000 -3e-7 0x1F ½ Ⅳ ²",
    "marks": "!?...—“quoted” ‘it's’ (a[b]{c}) <d> #e @f $g a_b a-b a/b \\ `~^",
    "code": "def f(x):\n    return {'a': x**2}  # note",
    "underline": "▁a ▁ ▁▁b a▁b Ġc <0x41> ##d",
    "specials": "<s> a </s> b<mask>c  <mask> d <pad> <unk> [CLS] e [SEP] f[MASK] g <bos> h <eos>",
    "specials-cased": "[cls] A [Mask] <MASK> <S>",
    "long-word": "x" * 120 + " y",
    "repeated": "the the the the world world world",
    "private": "\ue000\U000f0000\U0010ffff end",
    "astral": "𝒳𝓨 𐍈 𠀀 𝟙",
}

PAIR = ("one of two", " 세계 the other ")
