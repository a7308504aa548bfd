"""What callers are told when the pool or a worker cannot serve them: the words, in one place."""

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.worker import Failure


def shutting_down() -> ServeError:
    return ServeError(ErrorCode.SHUTTING_DOWN, "the server is shutting down", retry_after_s=5)


def keeps_failing(model: str, pause_s: float) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_UNAVAILABLE,
        f"the model {model!r} has failed several times and is not started for {pause_s:.0f} s",
        retry_after_s=pause_s,
    )


def no_room(why: str) -> ServeError:
    return ServeError(ErrorCode.INSUFFICIENT_MEMORY, why, retry_after_s=30)


def killed_by_input(failure: Failure, index: int, of: int) -> ServeError:
    subject = f"input {index}" if of > 1 else "the input"
    if failure is Failure.HUNG:
        message = f"the model made no progress on {subject} alone"
    else:
        message = f"{subject} alone crashed the model's process"
    return ServeError(ErrorCode.WORKER_CRASHED, message, param="input")


def answer_lost() -> ServeError:
    message = "the model's process ended while it was answering; ask again"
    return ServeError(ErrorCode.MODEL_UNAVAILABLE, message, retry_after_s=1)


def not_an_answer() -> ServeError:
    message = "the model's process gave an answer of another kind; the server's log has more"
    return ServeError(ErrorCode.INFERENCE_FAILED, message)


def still_loading(model: str) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_LOADING,
        f"the model {model!r} is still not loaded; try again later",
        retry_after_s=10,
    )


def too_slow(timeout_s: float) -> ServeError:
    return ServeError(
        ErrorCode.INFERENCE_TIMEOUT, f"no answer within {timeout_s:g} s; send less at once"
    )


def not_loaded_in_time(model: str, timeout_s: float) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_UNAVAILABLE,
        f"the model {model!r} was not loaded within {timeout_s:g} s; raise limits.load_timeout",
        retry_after_s=30,
    )


def process_not_started() -> ServeError:
    return ServeError(
        ErrorCode.MODEL_UNAVAILABLE,
        "the model's process could not be started; the server's log has the reason",
        retry_after_s=5,
    )


def being_removed(model: str) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_BUSY,
        f"the model {model!r} is being removed",
        param="model",
        retry_after_s=1,
    )


def still_in_use(model: str) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_BUSY,
        f"the model {model!r} is still in use; try again later",
        param="model",
        retry_after_s=10,
    )


def worked_on(model: str) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_BUSY,
        f"another job is working on the model {model!r}; GET /api/jobs shows how far it is",
        param="model",
        retry_after_s=10,
    )


def too_many_jobs(most: int) -> ServeError:
    return ServeError(
        ErrorCode.QUEUE_FULL,
        f"{most} jobs are running already; try again when one of them is done",
        retry_after_s=30,
    )
