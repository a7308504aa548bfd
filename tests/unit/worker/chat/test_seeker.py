"""Texts that are found wherever a text was cut."""

from hypothesis import example, given
from hypothesis import strategies as st

from mlx_serve_worker.chat.seeker import Seeker

LETTERS = st.text("ab", max_size=12)


def seek(texts: list[str], pieces: list[str]) -> tuple[str, str | None]:
    """What comes before, and what is found."""
    seeker = Seeker(texts)
    before = ""
    for piece in pieces:
        found = seeker.feed(piece)
        before += found.before
        if found.text is not None:
            return before, found.text
    return before + seeker.flush(), None


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.lists(LETTERS, max_size=6))
@example(["abc", "b"], ["abc"])
@example(["aab"], ["aaa", "ab"])
def test_where_a_text_is_cut_changes_nothing(texts: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    expected = seek(texts, list(whole))
    assert seek(texts, pieces) == expected
    before, found = expected
    assert whole.startswith(before + (found or ""))
    if found is None:
        assert before == whole
        assert not any(text in whole for text in texts)
    else:
        assert not any(text in (before + found)[:-1] for text in texts)


def test_nothing_is_held_back_that_cannot_become_a_text() -> None:
    seeker = Seeker(["STOP"])
    assert seeker.feed("word S").before == "word "
    assert seeker.feed("T").before == ""
    assert seeker.feed("ART").before == "START"
    assert seeker.flush() == ""


def test_what_follows_is_not_lost() -> None:
    found = Seeker(["</think>"]).feed("so.</think>Yes")
    assert found == ("so.", "</think>", "Yes")
