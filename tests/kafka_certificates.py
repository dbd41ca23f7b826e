"""An authority and the certificates it signs, made with `openssl` for each test run: no key lies in the repository.

The keys are PKCS 8 in PEM, the one form that both Kafka (`ssl.keystore.type=PEM`) and Python read.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A certificate and its key; `both` holds the two in one file, as Kafka wants a key store."""

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        path = self.certificate.with_suffix(".store.pem")
        path.write_text(self.key.read_text() + self.certificate.read_text())
        return path


class Authority:
    """Signs whatever is asked for. `certificate` is what clients and brokers trust."""

    def __init__(self, folder: Path, name: str = "evedge tests") -> None:
        if shutil.which("openssl") is None:
            raise RuntimeError("the certificates of the tests' Kafka need openssl on the path")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", self._key, "-out", self.certificate),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def sign(self, name: str, *, hosts: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> Identity:
        """A certificate for `CN=name` that is good on both sides of a connection. Negative days: it is over."""
        key, request, certificate = (self._folder / f"{name}.{ending}" for ending in ("key", "csr", "pem"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", extensions, "-out", certificate),
        )
        return Identity(certificate, key)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
