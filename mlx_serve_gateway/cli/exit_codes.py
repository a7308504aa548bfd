"""How a command ends: every exit code of ours, and the exception that carries one.

Invariants: 0 only when what was asked for is so.
"""

from enum import IntEnum

import click


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    NOT_RUNNING = 3  # of ``status``, as init scripts have it
    USAGE = 64
    UNAVAILABLE = 69  # the port belongs to another program
    INTERNAL = 70
    TEMPORARY = 75  # trying again later may help
    CONFIG = 78  # trying again cannot help; service managers are told not to
    INTERRUPTED = 130


class CommandFailed(click.ClickException):
    """A command that cannot do what was asked, in words that name the next step."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code
