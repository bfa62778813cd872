"""What is wrong with the values of a configuration file that are of the right type: files, models, targets, numbers.

Everything is looked at as the commands themselves would, but for what only a running broker, or a state, could say.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgwatch.settle import MODELS, Settler, beside
from monitor.configuration import DEVICES, LIMITS, Document

if TYPE_CHECKING:
    from monitor.broker.connection import BrokerUrl, TlsFiles

Keys = tuple[str, ...]
Check = tuple[Keys, Callable[[], object]]
"""The keys under which a value stands, and what reads it and raises an error if it is wrong."""
TLS = ("cafile", "certfile", "keyfile")


def examine(settler: Settler, document: Document) -> Iterator[ValueError]:
    """Yield all that is wrong with a file whose keys and types are known to be right, each with its place."""
    for keys, read in _checks(document):
        try:
            read()
        except (ValueError, OSError) as error:
            text = str(error)
            is_placed = text.startswith(f"{document.path}:")
            yield ValueError(text) if is_placed else document.error(keys, text)
    yield from _examine_notifications(settler, document)


def _checks(document: Document) -> Iterator[Check]:
    from monitor import wire
    from monitor.broker.connection import BrokerUrl

    yield (LIMITS,), partial(_read_limits_and_devices, document)
    sections: list[tuple[Keys, Mapping[str, Any]]] = [((), document.table)]
    sections += [
        ((key,), part)
        for key, part in document.table.items()
        if isinstance(part, Mapping) and key not in (LIMITS, DEVICES)
    ]
    readers: dict[str, Callable[[Any], object]] = {"broker": BrokerUrl.parse, "prefix": wire.Topics}
    if "name" in document.table:
        yield ("name",), partial(wire.check_name, document.table["name"])
    for where, table in sections:
        for key, reader in readers.items():
            if key in table:
                yield (*where, key), partial(reader, table[key])
        yield from _check_files(document, where, table)
        yield from _check_models(document, where, table)
    yield ("run", "workers"), partial(_check_workers, document.section("run"))


def _read_limits_and_devices(document: Document) -> None:
    from monitor.alerts.episode import AlertSettings
    from monitor.service.configured import check_devices, read_limits
    from monitor.service.settings import ServiceSettings

    check_devices(document, ServiceSettings(alerts=AlertSettings(limits=read_limits(document, ()))))


def _check_workers(run: Mapping[str, Any]) -> None:
    if run.get("workers", 1) < 1:
        raise ValueError(f"A monitor needs at least one worker: got {run['workers']}.")


def _check_files(document: Document, where: Keys, table: Mapping[str, Any]) -> Iterator[Check]:
    """Check the files of the connection to the broker."""
    from monitor.broker.connection import TlsFiles, read_password

    folder = document.path.absolute().parent
    url = _broker(table) or _broker(document.table)
    given = {key: folder / table[key] for key in TLS if key in table}
    if given:
        yield (*where, next(iter(given))), partial(_read_tls, TlsFiles(**given), url)
    if "password-file" in table and url is not None:
        yield (*where, "password-file"), partial(read_password, url, folder / table["password-file"])


def _broker(table: Mapping[str, Any]) -> BrokerUrl | None:
    """Return the broker that a section names; None if it names none, or what is no broker."""
    from monitor.broker.connection import BrokerUrl

    try:
        return BrokerUrl.parse(table["broker"]) if "broker" in table else None
    except ValueError:
        return None


def _read_tls(files: TlsFiles, url: BrokerUrl | None) -> None:
    if (
        files.certfile is not None and files.keyfile is None
    ):  # its key may come by a flag, as that of the unit in deploy/
        _read_certificate(files.certfile)
        replace(files, certfile=None).context()
    else:
        files.context()
    if url is not None and not url.tls:
        raise ValueError(f"A {files.first_given()} is only used with TLS: got {url}, expected mqtts://.")


def _read_certificate(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:
        raise ValueError(f"The client certificate {file} cannot be used: {error}.") from None


def _check_models(document: Document, where: Keys, table: Mapping[str, Any]) -> Iterator[Check]:
    """Check that models are there and can be loaded."""
    from monitor.panel import NO_SHAPE, read_info

    for key in MODELS:
        name = table.get(key)
        if isinstance(name, str) and where[:1] in ((), ("run",), ("doctor",)) and (key, name) != ("shape", NO_SHAPE):
            yield (*where, key), partial(read_info, beside(document, name))


def _examine_notifications(settler: Settler, document: Document) -> Iterator[ValueError]:
    """Yield what is wrong with targets, and with rules that name them."""
    from monitor.notify.command import TARGETS, check_names, read_targets
    from monitor.notify.rules import Rule

    places = {
        key: keys
        for keys in (("notify",), ("notify", "run"))
        for key in document.section(*keys)
        if key in (*TARGETS, "rule")
    }
    if not places:
        return
    options = _options(settler, document)
    at = next((places[key] + (key,) for key in TARGETS if key in places), (*places.get("rule", ("notify",)), "rule"))
    try:
        targets = read_targets(options)
        at = (*places.get("rule", ("notify",)), "rule")
        check_names(tuple(options.rule) or (Rule(),), targets)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        yield document.error(at, str(error))


def _options(settler: Settler, document: Document) -> argparse.Namespace:
    """Return what ``notify run`` would go by, if the file were all that is said."""
    path = ("notify", "run")
    parser = settler.build(path)
    settler.without_environment().settle(parser, path, (), document.path)
    return parser.parse_args([])
