"""What is logged of an error in a model's code: its kind and where it came from.

Its message is left out: libraries quote in it what they could not handle, which is what a person
has sent.
"""

import logging
import sys
import traceback

log = logging.getLogger(__name__)


def log_failure(what: str) -> None:
    """To be called where the error is handled."""
    kind, _, where = sys.exc_info()
    assert kind is not None
    log.error("%s: %s\n%s", what, kind.__name__, "".join(traceback.format_tb(where)))
