"""``python -P -m mlx_serve_worker FOLDER``: one model, until the gateway says otherwise.

The process is bound to its parent before anything else is imported.
"""

from mlx_serve_worker import lifeline

lifeline.die_with_parent()
lifeline.ignore_group_signals()

import logging  # noqa: E402 - nothing may be imported before the process is bound to its parent
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402

import msgspec  # noqa: E402

from mlx_serve_common.launch import SPARE, LaunchSpec  # noqa: E402
from mlx_serve_worker.backend_choice import import_for_chat, make_launched  # noqa: E402
from mlx_serve_worker.failure_log import log_failure  # noqa: E402
from mlx_serve_worker.loop import EXIT_FAULT, Loop  # noqa: E402


def main() -> None:
    if sys.argv[1] == SPARE:
        import_for_chat()
    token, orders = lifeline.receive_orders()
    # A dump of our memory would hold what people have sent.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spec = msgspec.json.decode(orders, type=LaunchSpec)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        code = Loop(spec, token, lambda: make_launched(spec)).run()
    except BaseException:
        log_failure("the worker's main thread died")
        code = EXIT_FAULT
    logging.shutdown()
    # The interpreter's own shutdown would wait for MLX to tear down; the kernel does it better.
    os._exit(code)


main()
