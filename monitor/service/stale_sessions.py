"""Sessions that a broker keeps for monitors that will not come back: those of a former number of workers.

A session collects packets until its client returns. Whoever changes the number of workers leaves some behind, and the
broker would fill up. Each monitor holds its name where it keeps its state; where nobody holds the name, nobody uses the
session.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from monitor.broker import connection
from monitor.broker.mqtt import end_session
from monitor.service.settings import ServiceSettings
from monitor.state.location import locate

log = logging.getLogger(__name__)


def end_stale_sessions(settings: ServiceSettings, in_use: Collection[str]) -> None:
    """End the sessions of all former monitors of that name, but for those whose names are in use.

    What cannot be ended now, because somebody uses it or the broker is away, is left for the next start.
    """
    if settings.state is None:
        return
    location = locate(settings.state)
    for name in location.names_held(settings.name):
        if name in in_use:
            continue
        with location.try_hold(name) as is_ours:
            if is_ours and _end(settings, name):
                location.drop_name(name)
                log.info("ended the session of %s, which is not used any more", name)


def _end(settings: ServiceSettings, name: str) -> bool:
    """Connect under that name as a client that wants no session; return whether that worked."""
    password = connection.read_password(settings.broker, settings.password_file)
    try:
        end_session(settings.broker, f"ecgwatch-{name}", password=password, tls=settings.tls)
    except OSError as error:
        log.info("the session of %s could not be ended: %s", name, error)
        return False
    return True
