"""Free ports on 127.0.0.1 that stay free while a server is down.

The ports lie below the range that the kernel hands to outgoing connections. A port from that range can be
taken by any client while its server restarts; worse, a client that keeps trying to reconnect to it can be
given the same number as its own source port and connect to itself.
"""

import random
import socket

FIRST_PORT = 15000
LAST_PORT = 31999

_handed_out: set[int] = set()
_random = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on and that this process has not handed out before.

    Raises:
        RuntimeError: no free port was found.
    """
    for _ in range(200):
        port = _random.randint(FIRST_PORT, LAST_PORT)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port
    raise RuntimeError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
