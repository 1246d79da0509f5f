"""The private keys at hand: a file, an environment variable, or a command that prints them.

None of them is ever an argument, and no message quotes what was read.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from reconciler.content.age.errors import AgeKeyError
from reconciler.content.age.keys import SECRET_PREFIX, Identity, parse_identities
from reconciler.errors import UserError, Where
from reconciler.fs import expand_user
from reconciler.index.seal_policy import KEY_ENV

COMMAND_ENV = "RECONCILE_IDENTITY_COMMAND"

_MAX_SIZE = 1 << 16  # bytes
_COMMAND_SECONDS = 120.0  # a person may have to touch a key
_BEGINNINGS = (SECRET_PREFIX, "-----BEGIN", "#")


def identities_from(
    environ: Mapping[str, str], *, file: Path | None = None, variable: str = KEY_ENV
) -> list[Identity]:
    """Return the private keys in `file`, else those of `variable`, else those that a command prints.

    The variable has the keys themselves or the path of a file; the command is in COMMAND_ENV. Returns nothing
    when none of them is given. Raises UserError when keys are given and cannot be read.
    """
    if file is not None:
        return _parsed(_read_file(file), str(file))
    if value := environ.get(variable, "").strip():
        if value.startswith(_BEGINNINGS):
            return _parsed(value, variable)
        if len(value.splitlines()) > 1:
            raise UserError(f"{variable} has neither private keys nor the path of a file with them")
        path = expand_user(value)
        # The value may be a key that was cut, or another secret: it is not shown, not even by an OSError.
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            raise UserError(
                f"{variable} has neither private keys nor the path of a file with them",
                hint="`age-keygen -o FILE` makes one",
            )
        return _parsed(_read_file(path), str(path))
    if command := environ.get(COMMAND_ENV, "").strip():
        return _parsed(_run(command), f"the output of {COMMAND_ENV}")
    return []


def _run(command: str) -> str:
    """Return what a command prints; it runs without a shell."""
    try:
        arguments = shlex.split(command)
        done = subprocess.run(
            arguments, check=False, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS
        )
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it is malformed"
        raise UserError(f"the command in {COMMAND_ENV} cannot be run: {reason.lower()}") from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"the command in {COMMAND_ENV} did not finish within {_COMMAND_SECONDS:g} seconds"
        ) from None
    if done.returncode:
        raise UserError(f"the command in {COMMAND_ENV} failed with exit status {done.returncode}")
    return _decoded(done.stdout, f"the output of {COMMAND_ENV}")


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_MAX_SIZE + 1), str(path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot read the identity: {reason}", where=Where(str(path))) from None


def _decoded(data: bytes, name: str) -> str:
    try:
        if len(data) <= _MAX_SIZE:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise UserError("is not an identity file", hint="`age-keygen` makes one", where=Where(name))


def _parsed(text: str, name: str) -> list[Identity]:
    try:
        return parse_identities(text)
    except AgeKeyError as error:
        raise UserError(error.message, hint=error.hint, where=Where(name)) from None
