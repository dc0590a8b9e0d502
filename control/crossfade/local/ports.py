"""Free TCP ports on the loopback interface."""

import socket

HOST = "127.0.0.1"


def free_port(preferred: int | None = None) -> int:
    """Return a port of 127.0.0.1 that nobody listens on, the preferred one when it is free.

    The port may be taken before the caller binds it, so callers retry with another one.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether a server could bind the port now."""
    with socket.socket() as probe:
        # As servers do: without it, a port in TIME_WAIT would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
