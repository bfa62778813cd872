"""Who may log in: a file with names, roles and hashes of passwords (argon2id).

A viewer sees everything and changes nothing; a responder may also answer alerts, name devices and set limits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Literal, get_args

import argon2
import msgspec

from monitor import wire
from monitor.state.location import default_directory

log = logging.getLogger(__name__)

Role = Literal["viewer", "responder"]
ROLES: tuple[Role, ...] = get_args(Role)
FILE = "page-users.json"
LEAST_LENGTH = 10
MOST_LENGTH = 256
"""Characters of a password."""
_hasher = argon2.PasswordHasher()


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may log in."""

    name: str
    role: Role
    password: str
    """Hash, as argon2 writes it."""


def users_file(given: Path | None) -> Path:
    """Return the file of users: the given one, or that in the directory of states."""
    return default_directory() / FILE if given is None else given


def read_users(file: Path) -> dict[str, User]:
    """Return all users by name; none if there is no such file.

    Raises
    ------
    ValueError
        The file cannot be read, is not of this form, or may be read by others.
    """
    try:
        content = file.read_bytes()
        mode = file.stat().st_mode
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"The file of users {file} cannot be read: {error.strerror}.") from None
    if mode & 0o077:
        raise ValueError(f"The file of users {file} must be readable by its owner alone: chmod 600 {file}.")
    try:
        users = msgspec.json.decode(content, type=list[User])
    except msgspec.MsgspecError as error:
        raise ValueError(f"The file of users {file} is not one: {error}.") from None
    return {user.name: user for user in users}


class UserFile:
    """The file of users, read again whenever it has changed; while it cannot be read, what it said last holds.

    Parameters
    ----------
    file
        Where.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, ...] | None = None
        self._users: dict[str, User] = {}

    def users(self) -> dict[str, User]:
        """Return all users by name."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._users = read_users(self._file)
            except ValueError as error:
                log.warning("%s Who is logged in stays so.", error)
        return self._users

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def add_user(file: Path, name: str, role: Role, password: str) -> None:
    """Add a user, or give one another role and password; the file is replaced as a whole.

    Raises
    ------
    ValueError
        The name or the password cannot be used, or the file is not one of users.
    """
    if not re.fullmatch(wire.DEVICE_ID, name):
        raise ValueError(f"A user's name must match {wire.DEVICE_ID}: got {name[:80]!r}.")
    if not LEAST_LENGTH <= len(password) <= MOST_LENGTH:
        raise ValueError(f"A password must have {LEAST_LENGTH} to {MOST_LENGTH} characters: got {len(password)}.")
    users = read_users(file) | {name: User(name, role, _hasher.hash(password))}
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, path = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # created with mode 600
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(msgspec.json.format(msgspec.json.encode(list(users.values())), indent=2))
            written.flush()
            os.fsync(written.fileno())
        Path(path).replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        raise


def check_password(users: dict[str, User], name: str, password: str) -> User | None:
    """Return the user, or None if there is no such user or the password is another.

    An unknown name takes as long as a wrong password. It takes about 50 ms of processor time: not for an event loop.
    """
    user = users.get(name)
    try:
        _hasher.verify(_NOBODY if user is None else user.password, password[:MOST_LENGTH])
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return None
    return user


_NOBODY = _hasher.hash(os.urandom(16).hex())
