"""Commands by which people answer alerts: each asks the running monitor over MQTT, and prints what it answers.

``ecgwatch devices``, ``labels`` and ``audit`` show what came of it. Only flags are declared here; what a command needs
is imported when it runs.
"""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING, Any

from monitor.command import Group, Verb
from monitor.flags import add_broker, duration, place

if TYPE_CHECKING:
    from monitor.tools.ask import Asker


def acknowledge(options: argparse.Namespace) -> int:
    """Acknowledge an alert, or all active ones of a device."""
    return _ask(options, "acknowledge", episode=options.episode, kind=options.kind)


def silence(options: argparse.Namespace) -> int:
    """Silence a device, or one kind of alert of it, for a time."""
    from monitor import wire

    if not 0 < options.time <= wire.MOST_SILENCE_S:
        days = wire.MOST_SILENCE_S // 86400
        raise ValueError(f"silence --for: got {options.time:.0f} s, expected more than 0 and at most {days}d.")
    return _ask(options, "silence", kind=options.kind, for_s=options.time, reason=options.reason)


def unsilence(options: argparse.Namespace) -> int:
    """Take a silence back."""
    return _ask(options, "unsilence", kind=options.kind)


def comment(options: argparse.Namespace) -> int:
    """Say something about an alert."""
    return _ask(options, "comment", episode=options.episode, text=options.text)


def judge(options: argparse.Namespace) -> int:
    """Say whether an alert was right."""
    return _ask(options, "judge", episode=options.episode, right=options.verdict == "right", text=options.text)


def set_device(options: argparse.Namespace) -> int:
    """Name a device, or set its limits."""
    from monitor.tools.ask import parse_limits

    if options.name is None and not options.limits:
        raise ValueError("device set: expected --name NAME, --limits KIND.PARAMETER=VALUE, or both.")
    limits = parse_limits(options.limits)  # before anything is asked
    failed = 0
    if options.name is not None:
        failed |= _ask(options, "rename", name=options.name or None)
    if limits:
        failed |= _ask(options, "limits", limits=limits)
    return failed


def reload(options: argparse.Namespace) -> int:
    """Let the monitor read its configuration file again."""
    from monitor.tools.ask import ask

    return ask(_asker(options), "reload", {"by": options.by})


def devices(options: argparse.Namespace) -> int:
    """List how all devices are."""
    from monitor.tools.ask import list_devices

    return list_devices(_asker(options), options.json)


def labels(options: argparse.Namespace) -> int:
    """Print the alerts that were judged."""
    from monitor.state.location import default_directory
    from monitor.tools.audit import print_labels

    return print_labels(options.state or default_directory(), options.monitor)


def audit(options: argparse.Namespace) -> int:
    """Print the requests that a monitor has granted."""
    from monitor.state.location import default_directory
    from monitor.tools.audit import print_audit

    return print_audit(
        options.state or default_directory(), options.monitor, options.device, options.since, options.json
    )


def _asker(options: argparse.Namespace) -> Asker:
    from monitor import wire
    from monitor.broker import connection
    from monitor.tools.ask import Asker

    url = connection.BrokerUrl.parse(options.broker)
    return Asker(
        broker=url,
        topics=wire.Topics(options.prefix),
        monitor=wire.check_name(options.monitor),
        password=connection.read_password(url, options.password_file),
        tls=connection.TlsFiles(options.cafile, options.certfile, options.keyfile),
    )


def _ask(options: argparse.Namespace, verb: str, **fields: Any) -> int:
    from monitor.tools.ask import ask

    return ask(_asker(options), verb, {"device": options.device, "by": options.by} | fields)


def _user() -> str:
    """Return who is logged in; some containers have no name for that."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "unknown"


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="id of the device")


def add_reload(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``ecgwatch config reload``."""
    _add_asking(parser)


def _add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", default=_user(), metavar="NAME", help="who asks, for the audit trail")
    _add_monitor(parser)
    add_broker(parser)


def _add_monitor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--monitor", default="monitor", metavar="NAME", help="of the monitor that is asked")


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", metavar="KIND", help="only alerts of this kind, such as bradycardia")


def _add_episode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("episode", metavar="EPISODE", help="of the alert, as in its message or in the history's JSON")


def _add_acknowledge(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("--episode", metavar="EPISODE", help="only this alert; else all active ones of the device")
    _add_kind(parser)
    _add_asking(parser)


def _add_silence(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    _add_kind(parser)
    parser.add_argument(
        "--for", dest="time", type=duration, required=True, metavar="TIME", help="such as 10m or 24h, at most 7d"
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why it need make no noise")
    _add_asking(parser)


def _add_unsilence(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    _add_kind(parser)
    _add_asking(parser)


def _add_comment(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    _add_episode(parser)
    parser.add_argument("text", metavar="TEXT", help="what there is to say")
    _add_asking(parser)


def _add_judge(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    _add_episode(parser)
    parser.add_argument("verdict", choices=("right", "wrong"), help="whether the alert was right")
    parser.add_argument("--text", metavar="TEXT", help="what more there is to say")
    _add_asking(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("--name", metavar="NAME", help="what people call it; empty: only its id")
    parser.add_argument(
        "--limits",
        action="append",
        default=[],
        metavar="KIND.PARAMETER=VALUE",
        help="such as bradycardia.below_bpm=45; KIND= goes back to those of all devices; can be repeated",
    )
    _add_asking(parser)


def _add_devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="each state as it was published, one a line")
    _add_monitor(parser)
    add_broker(parser)


def _add_labels(parser: argparse.ArgumentParser) -> None:
    _add_monitor(parser)
    parser.add_argument("--state", type=place, metavar="PLACE", help="where the monitor keeps its state")


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="ID", help="only those about this device")
    parser.add_argument("--since", type=duration, default="30d", metavar="TIME", help="how far back, such as 7d")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_labels(parser)


VERBS: tuple[Verb | Group, ...] = (
    Verb("devices", "list how all devices are, and what is alerted", _add_devices, devices),
    Verb("ack", "acknowledge an alert, or all active ones of a device", _add_acknowledge, acknowledge),
    Verb("silence", "let alerts of a device make no noise for a time", _add_silence, silence),
    Verb("unsilence", "take a silence back", _add_unsilence, unsilence),
    Verb("comment", "say something about an alert", _add_comment, comment),
    Verb("judge", "say whether an alert was right; kept as a label", _add_judge, judge),
    Group(
        "device",
        "name a device, or set its limits",
        (Verb("set", "name a device, or set its limits", _add_set, set_device),),
    ),
    Verb("labels", "print the alerts that were judged, one JSON object a line, for training", _add_labels, labels),
    Verb("audit", "print who asked what of a monitor, oldest first", _add_audit, audit),
)
