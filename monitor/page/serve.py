"""Serving the page until it is told to stop."""

from __future__ import annotations

import logging
import socket
import sys
import threading

import uvicorn

from monitor.page.app import make_app
from monitor.page.feed import Feed
from monitor.page.settings import PageAddress, PageSettings
from monitor.page.users import read_users, users_file

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 500
MOST_WISH = 64 * 1024
"""Bytes of what a page may send over its WebSocket at a time."""


def serve(settings: PageSettings, *, is_attached: bool = False) -> None:
    """Serve the page; its address is the first line on standard output.

    Parameters
    ----------
    settings
        How it runs.
    is_attached
        End when standard input is closed: whoever started this holds it open.

    Raises
    ------
    ValueError
        A login is needed and there are no users, or a certificate cannot be used.
    OSError
        The address cannot be bound.
    """
    server, listener = make_server(settings)
    with listener:
        scheme = "http" if settings.certificate is None else "https"
        print(f"{scheme}://{_shown(settings.address.host)}:{listener.getsockname()[1]}/", flush=True)
        if is_attached:
            threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


def make_server(settings: PageSettings) -> tuple[uvicorn.Server, socket.socket]:
    """Return a server of the page, to be run, and the socket on which it shall listen, which is open; see `serve`."""
    if settings.needs_login and not read_users(users_file(settings.users)):
        raise ValueError(
            f"Nobody may log in: there are no users in {users_file(settings.users)}. "
            "Add one: ecgwatch page --add-user NAME"
        )
    listener = _listen(settings.address)
    config = uvicorn.Config(
        make_app(settings, Feed(settings)),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=MOST_WISH,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    return uvicorn.Server(config), listener


def _end_with_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


def _listen(address: PageAddress) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        raise OSError(f"The page cannot be served on {address.host}:{address.port}: {error.strerror}.") from None
    listener.listen(128)
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
