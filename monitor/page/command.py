"""Command line of the page: ``ecgwatch page``, and the flags of ``run --page``. Imports nothing heavy."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.command import Verb
from monitor.flags import add_broker, place

if TYPE_CHECKING:
    from monitor.page.settings import PageSettings

PAGE = "127.0.0.1:8520"


def run_page(options: argparse.Namespace) -> int:
    """Serve the web page until interrupted, or add somebody who may log in."""
    from monitor.page.users import add_user, users_file

    if options.add_user is not None:
        file = users_file(options.users)
        add_user(file, options.add_user, options.role, _ask_password())
        print(f"{options.add_user} may log in as {options.role}; users are kept in {file}")
        return 0
    from monitor.page import serve

    serve.serve(_settings(options), is_attached=options.attached)
    return 0


def _settings(options: argparse.Namespace) -> PageSettings:
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.page.settings import PageAddress, PageSettings
    from monitor.state.location import default_directory

    return PageSettings(
        broker=BrokerUrl.parse(options.broker),
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
        prefix=options.prefix,
        name=options.name,
        address=PageAddress.parse(options.page),
        certificate=options.page_certificate,
        key=options.page_key,
        users=options.users,
        login=options.page_login,
        plain_http=options.page_plain_http,
        state=None if _keeps_nothing(options) else options.state or default_directory(),
        phones=options.page_phones,
    )


def _keeps_nothing(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "no_history", False) or getattr(options, "no_state", False))


def _ask_password() -> str:
    """Ask twice at a terminal; else read one line from standard input."""
    import getpass

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise ValueError("The two passwords differ.")
    return password


def command_of(options: argparse.Namespace) -> list[str] | None:
    """Return the command that serves the page of this monitor, if it shall have one; refuse what it would refuse."""
    if options.page is None:
        return None
    if find_spec("uvicorn") is None:
        raise ValueError("run --page needs more packages: pip install 'ecgwatch[page]'")
    _settings(options)
    given = {
        "--broker": options.broker,
        "--password-file": options.password_file,
        "--cafile": options.cafile,
        "--certfile": options.certfile,
        "--keyfile": options.keyfile,
        "--prefix": options.prefix,
        "--name": options.name,
        "--state": options.state,
        "--page": options.page,
        "--users": options.users,
        "--page-certificate": options.page_certificate,
        "--page-key": options.page_key,
    }
    flags = {
        "--no-history": options.no_state,
        "--page-login": options.page_login,
        "--page-plain-http": options.page_plain_http,
        "--page-phones": options.page_phones,
    }
    words = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    return [sys.executable, "-m", "monitor", "page", "--attached", *words, *(flag for flag in flags if flags[flag])]


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags by which a monitor has a page beside it."""
    group = parser.add_argument_group("web page; needs ecgwatch[page]")
    group.add_argument("--page", metavar="[HOST:]PORT", help="serve it, and publish every beat; HOST is 127.0.0.1")
    _add_security(group)


def _add_page(parser: argparse.ArgumentParser) -> None:
    add_broker(parser)
    parser.add_argument("--name", default="monitor", help="of the monitor that answers, and whose history is shown")
    parser.add_argument("--state", type=place, metavar="PLACE", help="where the monitor keeps its state")
    parser.add_argument("--no-history", action="store_true", help="show only what is heard from now on")
    parser.add_argument("--page", default=PAGE, metavar="[HOST:]PORT", help="where to serve it; 0 takes a free port")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)  # see monitor.service.companion
    _add_security(parser)
    adding = parser.add_argument_group("add somebody who may log in, and do nothing else")
    adding.add_argument("--add-user", metavar="NAME", help="asks for the password, or reads it from standard input")
    adding.add_argument("--role", choices=("viewer", "responder"), default="responder", help="a viewer changes nothing")


def _add_security(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--users", type=Path, metavar="FILE", help="people who may log in; if not given with the state")
    parser.add_argument("--page-login", action="store_true", help="ask for a login on this machine too, as for a proxy")
    parser.add_argument("--page-certificate", type=Path, metavar="FILE", help="PEM file: serve over HTTPS")
    parser.add_argument("--page-key", type=Path, metavar="FILE", help="its private key, if not in the same file")
    parser.add_argument(
        "--page-plain-http", action="store_true", help="serve other machines without TLS, readable on the network"
    )
    parser.add_argument(
        "--page-phones", action="store_true", help="let a phone that opens /phone stream a chest strap as a device"
    )


VERB = Verb("page", "serve the web page: fleet, live strips, alerts", _add_page, run_page, extra="page")
