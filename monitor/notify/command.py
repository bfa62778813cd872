"""Command line of notifications: ``ecgwatch notify run``, ``test`` and ``home-assistant``. Imports nothing heavy."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from monitor.command import Group, Verb
from monitor.flags import add_broker, duration, place

if TYPE_CHECKING:
    from monitor.notify.rules import Quiet, Rule
    from monitor.notify.targets import Target

TARGETS = ("webhook", "webhook-file", "apprise-file")
"""Flags that say where to notify."""


def run(options: argparse.Namespace) -> None:
    """Tell people of alerts until interrupted."""
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.notify.rules import Rule, Rules
    from monitor.notify.run import NotifySettings
    from monitor.notify.run import run as run_notifier
    from monitor.service.logs import set_up
    from monitor.state.location import directory

    rules = Rules(tuple(options.rule) or (Rule(),), options.quiet, options.quiet_passes)
    targets = read_targets(options)
    check_names(rules.rules, targets)
    settings = NotifySettings(
        broker=BrokerUrl.parse(options.broker),
        state=directory(options.state),
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
        prefix=options.prefix,
        session=options.session,
        keep_s=options.keep,
        with_signal=not options.without_signal,
    )
    set_up(options.log, "notify")
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))
    run_notifier(settings, rules, targets, lambda: bool(stopping))


def home_assistant(options: argparse.Namespace) -> None:
    """Offer all devices to Home Assistant until interrupted, or let it forget some."""
    from monitor import wire
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.notify.home_assistant import HomeAssistantSettings, remove
    from monitor.notify.home_assistant import run as run_discovery
    from monitor.service.logs import set_up

    settings = HomeAssistantSettings(
        broker=BrokerUrl.parse(options.broker),
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
        prefix=options.prefix,
        discovery_prefix=options.discovery_prefix,
        monitor=wire.check_name(options.monitor),
    )
    set_up(options.log, "home-assistant")
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))
    if options.remove:
        remove(settings, options.remove, lambda: bool(stopping))
    else:
        run_discovery(settings, lambda: bool(stopping))


def test(options: argparse.Namespace) -> int:
    """Send one notification to each target."""
    from monitor.notify.run import send_test

    targets = [target for target in read_targets(options) if options.to in (None, target.name)]
    if not targets:
        names = ", ".join(target.name for target in read_targets(options))
        raise ValueError(f"There is no target {options.to!r}: expected one of {names}.")
    return send_test(targets, time.time())


def read_targets(options: argparse.Namespace) -> list[Target]:
    """Return all targets that are given.

    Raises
    ------
    ValueError
        There is none, one cannot be used, or two have one name.
    """
    from monitor.notify.targets import read_apprise_file, read_webhook, read_webhook_file

    targets: list[Target] = [read_webhook(text, options.timeout) for text in options.webhook]
    targets += [read_webhook_file(text, options.timeout) for text in options.webhook_file]
    for text in options.apprise_file:
        targets += read_apprise_file(text)
    names = [target.name for target in targets]
    if not targets:
        raise ValueError("Nowhere to notify: expected --webhook, --webhook-file or --apprise-file.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Two targets are called {twice[0]}: give them names, as in --webhook NAME=URL.")
    return targets


def check_names(rules: Iterable[Rule], targets: list[Target]) -> None:
    """Refuse a rule that would tell nobody, with a ValueError."""
    names = [target.name for target in targets]
    for pattern in (pattern for rule in rules for pattern in rule.to):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"A rule says to={pattern}, and there is no such target: expected one of {', '.join(names)}."
            )


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook",
        action="append",
        type=_webhook,
        default=[],
        metavar="[NAME=]URL",
        help="gets alerts by POST; can be repeated",
    )
    parser.add_argument(
        "--webhook-file",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="with the URL, where that is a secret, and headers below it",
    )
    parser.add_argument(
        "--apprise-file",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="with URLs of Apprise, one a line; needs ecgwatch[notify]",
    )
    parser.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="of a webhook")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_targets(parser)
    parser.add_argument(
        "--rule",
        action="append",
        type=_rule,
        default=[],
        metavar="WORDS",
        help='such as "severity=high,low device=bed-* kind=pause state=new,end to=NAME silenced=true"; can be '
        "repeated; if none is given, what begins of high and medium priority",
    )
    parser.add_argument("--quiet", type=_quiet, metavar="HH:MM-HH:MM", help="hours in which alerts wait until they end")
    parser.add_argument(
        "--quiet-passes", type=_severities, default="high", metavar="PRIORITIES", help="what does not wait; or none"
    )
    parser.add_argument("--without-signal", action="store_true", help="send no strip and no waveform of an alert")
    parser.add_argument("--keep", type=duration, default="24h", metavar="TIME", help="for how long to try")
    parser.add_argument(
        "--session", default="notify", metavar="NAME", help="of this notifier: its session and its queue are kept by it"
    )
    parser.add_argument(
        "--state", type=place, metavar="PLACE",
        help="where the monitor keeps its state; its queue lies there, or in the usual directory beside a database",
    )  # fmt: skip
    parser.add_argument("--log", choices=("text", "json"), default="text", help="format of the log lines on stderr")
    add_broker(parser)


def _add_test(parser: argparse.ArgumentParser) -> None:
    _add_targets(parser)
    parser.add_argument("--to", metavar="NAME", help="only this target")


def _add_home_assistant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--discovery-prefix", default="homeassistant", metavar="TOPIC", help="as set there")
    parser.add_argument(
        "--monitor", default="monitor", metavar="NAME", help="while this one is offline, devices are unavailable"
    )
    parser.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="DEVICE",
        help="let it forget this one, and end; can be repeated",
    )
    parser.add_argument("--log", choices=("text", "json"), default="text", help="format of the log lines on stderr")
    add_broker(parser)


def _rule(text: str) -> Rule:
    from monitor.notify.rules import parse_rule

    return parse_rule(text)


def _quiet(text: str) -> Quiet:
    from monitor.notify.rules import parse_quiet

    return parse_quiet(text)


def _severities(text: str) -> tuple[str, ...]:
    from monitor.notify.rules import parse_severities

    return parse_severities(text)


def _webhook(text: str) -> str:
    """Return the text, if a webhook can be read from it."""
    from monitor.notify.targets import read_webhook

    try:
        read_webhook(text, 1.0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None
    return text


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 600:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds above 0, up to 600")
    return number


GROUP = Group(
    "notify",
    "tell people elsewhere of alerts",
    (
        Verb("run", "send alerts to webhooks and whatever Apprise reaches", _add_run, run, "notify"),
        Verb(
            "home-assistant",
            "let Home Assistant find the devices, by MQTT discovery",
            _add_home_assistant,
            home_assistant,
        ),
        Verb("test", "send a test to each target, and say what came back", _add_test, test, "notify"),
    ),
)
