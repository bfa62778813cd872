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
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.certfile, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl("req", "-x509", *_key(self._key), "-days", "30", "-subj", f"/CN={name}", "-out", str(self.certfile))

    def issue(self, name: str, days: int = 30) -> Certificate:
        """Issue a certificate for a server on 127.0.0.1, or for a client of that name."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        _openssl(
            "req", *_key(key), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(request)
        )
        signing = ["-CA", str(self.certfile), "-CAkey", str(self._key), "-CAcreateserial", "-copy_extensions", "copy"]
        _openssl("x509", "-req", "-in", str(request), *signing, "-days", str(days), "-out", str(certificate))
        return Certificate(certificate, key)


def _key(file: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(file)]


def _openssl(*arguments: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    subprocess.run([openssl, *arguments], check=True, capture_output=True)
