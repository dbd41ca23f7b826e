"""`evedge hash-password`: reads a password, prints its hash for `password_hash` in `[[mqtt.users]]`."""

from __future__ import annotations

import sys

import click

from evedge.core.errors import UsageError
from evedge.links.passwords import MAX_PASSWORD_BYTES, hash_password


@click.command("hash-password")
def command() -> None:
    """Read a password from the terminal (twice, unseen) or one line from standard input; print its hash."""
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    else:
        try:
            password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UsageError("the password is not UTF-8 text") from error
    if not password:
        raise UsageError("the password is empty")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise UsageError(f"the password is longer than {MAX_PASSWORD_BYTES} bytes")
    click.echo(hash_password(password))
