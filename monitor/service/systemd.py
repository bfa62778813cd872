"""Notifying systemd of the state of the service: the protocol of sd_notify(3), which is one datagram.

Knows nothing of the monitor; without systemd (no NOTIFY_SOCKET) nothing happens.
"""

from __future__ import annotations

import os
import socket

SOCKET_VARIABLE = "NOTIFY_SOCKET"
"""Where systemd listens: a path, or a name in the abstract namespace after an "@"."""


def notify(state: str) -> bool:
    """Notify systemd of the state of this service.

    Parameters
    ----------
    state
        Assignments, one a line: "READY=1" once it serves, "WATCHDOG=1" regularly, "STOPPING=1" when it ends, and
        "STATUS=..." for a person who asks ``systemctl status``.

    Returns
    -------
    bool
        Whether it was sent: False without systemd, or if it does not listen any more, which is not an error.
    """
    address = os.environ.get(SOCKET_VARIABLE, "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1.0)
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True
