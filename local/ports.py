"""Free TCP ports on 127.0.0.1."""

import random
import socket

# Below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux, 49152 on macOS),
# so that a server that restarts finds its port still free.
FIRST_PORT, LAST_PORT = 20_000, 29_999


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port no one listens on, chosen at random. Raises OSError when there seems to be none."""
    for _ in range(1_000):
        port = random.randint(FIRST_PORT, LAST_PORT)
        if is_free(port):
            return port
    raise OSError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
