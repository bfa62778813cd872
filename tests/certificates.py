"""Certificate authorities for tests, made by the openssl command as an operator would."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certfile: Path
    keyfile: Path


class Authority:
    """A certificate authority with its files in a folder of its own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.certfile, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        signs = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _make(name, Certificate(self.certfile, self._key), 30, *signs)

    def issue(self, name: str, days: int = 30) -> Certificate:
        """Issue a certificate for a server on 127.0.0.1, or for a client of that name."""
        made = Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        extensions = "basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"
        signing = ["-CA", str(self.certfile), "-CAkey", str(self._key)]
        _make(name, made, days, *signing, *(word for extension in extensions for word in ("-addext", extension)))
        return made


def _make(name: str, files: Certificate, days: int, *more: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(files.keyfile)]
    _openssl("req", "-x509", *key, "-days", str(days), "-subj", f"/CN={name}", *more, "-out", str(files.certfile))


def _openssl(*arguments: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    subprocess.run([openssl, *arguments], check=True, capture_output=True)
