"""What the configuration file says of limits and devices, read at the start and again when that is asked for.

Rules
-----
* What can change while the monitor runs is applied between two turns: limits of all devices and of one, and names. No
  beat and no open alert is lost by it.
* What cannot is named in the log. A file that cannot be used changes nothing.
* Flags and environment go before the file; what people have decided about a device by requests does so too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from monitor.alerts.limits import Limits, parse_limits
from monitor.alerts.override import override
from monitor.alerts.registry import make_detectors
from monitor.configuration import DEVICES, LIMITS, DeviceDefaults, Document
from monitor.service.decisions import Decisions
from monitor.service.settings import ServiceSettings

if TYPE_CHECKING:  # they import what is heavy, and a parent of workers only reads the file
    from monitor.engine import Engine
    from monitor.service.states import States

log = logging.getLogger(__name__)

NO_FILE = "the monitor was started without a configuration file, so there is none to read again"


def read_limits(document: Document | None, given: tuple[str, ...]) -> Limits:
    """Return the limits of all devices.

    Parameters
    ----------
    document
        The file.
    given
        Those of environment and flags, as `parse_limits` takes them.

    Raises
    ------
    ValueError
        They cannot be used; with the place, if that is in the file.
    """
    in_file = [] if document is None else [f"{name}={value}" for name, value in document.limits().items()]
    try:
        return parse_limits([*in_file, *given])
    except ValueError as error:
        if document is None or not in_file:
            raise
        raise document.error((LIMITS,), str(error)) from None


def check_devices(document: Document, settings: ServiceSettings) -> dict[str, DeviceDefaults]:
    """Return what a file says of devices, by id.

    Raises
    ------
    ValueError
        It cannot be used, with the place.
    """
    detectors = {detector.kind: detector for detector in make_detectors(settings.alerts)}
    devices = document.devices()
    for device, said in devices.items():
        try:
            override(detectors, _plain(said))
        except ValueError as error:
            raise document.error((DEVICES, device, LIMITS), str(error)) from None
    return devices


class Configured:
    """Keeps a running monitor as its configuration file says.

    Parameters
    ----------
    settings
        How it runs, and where the file is.
    engine, decisions, states
        What has limits and names, and tells of them.
    """

    def __init__(self, settings: ServiceSettings, engine: Engine, decisions: Decisions, states: States) -> None:
        self._settings = settings
        self._engine = engine
        self._decisions = decisions
        self._states = states
        self._document: Document | None = None
        self._is_asked = False

    def ask(self) -> None:
        """Let the file be read again at the next turn; may be called from a signal handler."""
        self._is_asked = True

    def load(self) -> None:
        """Read it for the first time; what it says may have changed since the settings were made."""
        if self._settings.configuration is not None:
            with suppress(ValueError):  # it is in the log
                self._read()

    def turn(self) -> None:
        """Read it again, if that was asked for; what the engine was given must have been flushed."""
        if not self._is_asked:
            return
        self._is_asked = False
        if self._settings.configuration is not None:
            with suppress(ValueError):  # it is in the log
                self.read_again()
        elif self._is_first:
            log.info("SIGHUP is ignored: %s", NO_FILE)

    def read_again(self) -> str:
        """Read it again, log and return what came of that; what the engine was given must have been flushed.

        Raises
        ------
        ValueError
            There is no file, or it cannot be used: all stays as it was.
        """
        path, before = self._settings.configuration, self._document
        if path is None:
            raise ValueError(f"{NO_FILE[:1].upper()}{NO_FILE[1:]}.")
        self._read()
        fixed = _fixed_keys_that_differ(before, self._document)
        if self._is_first:
            log.info("%s was read again", path)
            for key in fixed:
                log.warning("%s has changed in the configuration file, and holds after a restart only", key)
        later = f" Changed, and to hold after a restart only: {', '.join(fixed)}." if fixed else ""
        return f"{path} was read again.{later}"

    @property
    def _is_first(self) -> bool:
        """Whether this is the worker that speaks for all."""
        return self._settings.shard[0] == 0

    def _read(self) -> None:
        """Read and apply it."""
        path = self._settings.configuration
        assert path is not None
        try:
            document = Document.read(path)
            limits = read_limits(document, self._settings.limits_given)
            settings = replace(self._settings, alerts=replace(self._settings.alerts, limits=limits))
            devices = check_devices(document, settings)
        except ValueError as error:
            log.error("the configuration file is not used, all stays as it was: %s", error)
            raise ValueError(f"The configuration file is not used, all stays as it was: {error}") from None
        self._document = document
        self._apply(settings, devices)

    def _apply(self, settings: ServiceSettings, devices: Mapping[str, DeviceDefaults]) -> None:
        engine, decisions = self._engine, self._decisions
        changed = decisions.set_defaults(devices)
        if settings.alerts != self._settings.alerts:
            engine.set_all_limits(settings.alerts)
            changed |= {*devices, *decisions.devices()}
            self._settings = settings
        for device in changed:
            try:
                engine.set_limits(device, decisions.limits_of(device))
            except ValueError as error:
                log.warning("the limits of device %s are not used: %s", device, error)
        self._states.touch(changed)


def _plain(said: DeviceDefaults) -> dict[str, dict[str, float]]:
    return {kind: dict(values) for kind, values in said.limits.items()}


def _fixed_keys_that_differ(before: Document | None, after: Document | None) -> list[str]:
    """Return what only a restart would change, of what the monitor itself goes by."""
    tables = [{} if one is None else _fixed(one) for one in (before, after)]
    return sorted(key for key in {*tables[0], *tables[1]} if tables[0].get(key) != tables[1].get(key))


def _fixed(document: Document) -> dict[str, object]:
    shared = {key: value for key, value in document.table.items() if not isinstance(value, Mapping)}
    return shared | {f"run.{key}": value for key, value in document.section("run").items()}
