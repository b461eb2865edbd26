"""A program that forks: it has imported the libraries, and nothing of `app`, and runs `python -m MODULE …`.

An interpreter that imports SQLAlchemy, Pydantic and a broker's client uses 0.6 to 1.4 s of CPU before the
first line of a worker runs; a fork of one that has them uses 0.05 s. Its only client is `support.forked`.

One byte on standard input's socket, with four descriptors, asks for a process: a channel, and its standard
streams. What to run comes over the channel as a line of JSON; the process id goes back, and its exit code.
Each process has a keeper, which waits for it and is otherwise idle, so that this program never waits.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from typing import Any

LIBRARIES = (
    "aio_pika",
    "asyncpg",
    "fastapi",
    "httpx2",
    "kombu.transport.redis",
    "pydantic_settings",
    "redis.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "celery",
    "uvicorn",
)


def serve(control: socket.socket) -> tuple[str, list[str]]:
    """Fork for whoever asks. It comes back in a new process alone: with the module, and its arguments."""
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not asked:  # the test run is over
            sys.exit()
        if os.fork() == 0:
            control.close()
            return keep(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def keep(channel_fd: int, *streams: int) -> tuple[str, list[str]]:
    """Fork the process; its parent tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel = socket.socket(fileno=channel_fd)
    with channel.makefile("r", encoding="utf-8") as lines:
        asked = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        channel.close()
        return become(asked, streams)
    for descriptor in (*streams, 0, 1, 2):
        os.close(descriptor)
    channel.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(asked: dict[str, Any], streams: tuple[int, ...]) -> tuple[str, list[str]]:
    """Be what a fresh interpreter with this environment, in this folder, would be."""
    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    folder, environment, (module, *arguments) = asked["cwd"], asked["env"], asked["words"]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return module, arguments


if __name__ == "__main__":
    del sys.path[0]  # this folder, some of whose modules are called like libraries
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    module, arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
