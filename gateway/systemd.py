"""sd_notify(3): tells systemd that we are ready, how we are, and that we make progress. Nothing without systemd."""

import os
import socket

_DATAGRAM_MAX = 4096  # octets; systemd reads no more


def notify(*assignments: str) -> bool:
    """Send ``READY=1``, ``STATUS=…``, ``WATCHDOG=1`` … to the service manager; tell whether there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    message = "\n".join(assignments).encode("utf-8", "replace")[:_DATAGRAM_MAX]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            datagrams.setblocking(False)
            datagrams.sendto(message, address)
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """Return how often to send ``WATCHDOG=1``, in seconds: a third of WATCHDOG_USEC; None where none is wanted."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 / 3
