"""Worker programs that do what no backend can: written by a test, started in the worker's place."""

from pathlib import Path

_PROLOGUE = """
import os, sys, time
import msgspec, zmq
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.launch import LaunchSpec
from mlx_serve_common.wire import *

token = os.read(3, TOKEN_BYTES)
size = int.from_bytes(os.read(3, 4), "big")
spec = msgspec.json.decode(os.read(3, size), type=LaunchSpec)
socket = zmq.Context().socket(zmq.DEALER)
socket.connect("ipc://" + spec.socket)

def send(*frames):
    socket.send_multipart(frames)

def say(message):
    send(token, encode(message))

def ready(protocol=PROTOCOL):
    say(Ready(protocol, os.getpid(), "odd", 0.0, 0))

def hear():
    return decode_to_worker(socket.recv())

def wait_for_the_end():
    while os.read(3, 1):
        pass
    os._exit(1)

"""


def odd_worker(folder: Path, program: str) -> Path:
    """The folder to start a worker from; it runs this program."""
    package = folder / "mlx_serve_worker"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(_PROLOGUE + program)
    return folder
