"""Every error a user may read: what happened, where, and what to do next.

    ReconcilerError
    ├── UserError            the user's or caller's mistake (exit 2)
    │   ├── InvalidIndexError     the index, a record or targets.yaml does not hold
    │   └── UsageError       a flag or an argument does not hold
    ├── BundleError          a source directory cannot be packed as it is (exit 1)
    │   └── SourceChangedError    a file changed while it was read
    ├── DataError            bytes do not hold: a bad CID, a bad CAR, a bad block (exit 1)
    │   └── BlockUnavailableError a block is missing or damaged where it was looked for
    ├── PeerError            a peer's fault: a target, a forge or a gateway (exit 1)
    ├── LockedError               another run holds the lock (exit 1)
    └── SafetyError        a safety rule stopped the run (exit 4)

The command line prints `error: <where>: <message>` and one `hint:` line, and never a traceback for these.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process exits with; a contract (docs/commands.md)."""

    OK = 0  #: in sync, or all applied
    ERROR = 1  #: an error
    USAGE = 2  #: wrong usage, or an index or configuration that does not hold
    PENDING = 3  #: changes are pending (only with --exit-code)
    REFUSED = 4  #: refused by a safety rule
    PARTIAL = 5  #: some items failed, the others were done
    INTERRUPTED = 130  #: stopped by SIGINT, as a shell would say it


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: `file:line`, or just `file` when the line is unknown (None)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class ReconcilerError(Exception):
    """Base of all. `message` is lower case, without a final period, with values quoted; `hint` is advice."""

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None, where: Where | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return self.message if self.where is None else f"{self.where}: {self.message}"


class UserError(ReconcilerError):
    """The user's or caller's mistake."""

    exit_code = ExitCode.USAGE


class InvalidIndexError(UserError):
    """The index, a record or targets.yaml does not hold."""


class FileChangedError(UserError):
    """A file changed between being read and being replaced; nothing was written."""

    def __init__(self, path: os.PathLike[str]) -> None:
        super().__init__(
            "the file changed meanwhile", hint="nothing was written; run again", where=Where(os.fspath(path))
        )


class UsageError(UserError):
    """A flag or an argument does not hold."""


class BundleError(ReconcilerError):
    """A source directory cannot be packed as it is."""


class SourceChangedError(BundleError):
    """A source file changed after it was scanned or hashed."""


class DataError(ReconcilerError):
    """Bytes do not hold: a malformed CID, CAR or block, or a digest that differs."""


class BlockUnavailableError(DataError):
    """A block is missing or damaged where it was looked for; another source may have it."""


class PeerError(ReconcilerError):
    """A peer's fault: a target, forge or gateway that is down, refuses, or lies."""


class LockedError(ReconcilerError):
    """Another run holds the lock; the message says who."""


class SafetyError(ReconcilerError):
    """A safety rule stopped the run; the hint names the exact override."""

    exit_code = ExitCode.REFUSED
