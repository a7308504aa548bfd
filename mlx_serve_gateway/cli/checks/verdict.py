"""What a check found, and what there is to do about it."""

from typing import Literal

import msgspec

State = Literal["ok", "warn", "fail"]


class Verdict(msgspec.Struct, frozen=True):
    """``fail``: something will not work. ``warn``: it works, and not as well as it could."""

    state: State
    message: str
    remedy: str | None = None


def ok(message: str) -> Verdict:
    return Verdict("ok", message)


def warn(message: str, remedy: str) -> Verdict:
    return Verdict("warn", message, remedy)


def fail(message: str, remedy: str) -> Verdict:
    return Verdict("fail", message, remedy)
