"""What msgspec raises of bytes that are not what they should be, whoever has written them."""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Deep nesting is no MsgspecError, and bad UTF-8 was none before msgspec 0.23."""
