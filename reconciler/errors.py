"""Exceptions for the user, and the exit code of each.

    ReconcilerError
    ├── UserError                     a mistake of the user or the caller (exit 2)
    │   ├── InvalidIndexError         the index, a record or targets.yaml is invalid
    │   ├── FileChangedError          a file changed between reading and replacing it
    │   └── UsageError                a flag or an argument is invalid
    ├── BundleError                   a source directory cannot be packed (exit 1)
    │   └── SourceChangedError        a file changed while it was read
    ├── DataError                     data is malformed or fails verification (exit 1)
    │   └── BlockUnavailableError     a block is missing or damaged in one source
    ├── PeerError                     a target, a forge or a gateway failed (exit 1); see also net.errors
    ├── LockedError                   another run holds the lock (exit 1)
    ├── SafetyError                   a safety rule stopped the run (exit 4)
    └── TrustError                    a trust rule refused a release or its history (exit 4)

The command line prints `error: <where>: <message>` and one `hint:` line, and no traceback for these.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum

from reconciler.redaction import hide_secrets


class ExitCode(IntEnum):
    """The exit status of the process; a contract (docs/commands.md)."""

    OK = 0  #: in sync, or all applied
    ERROR = 1  #: an error
    USAGE = 2  #: wrong usage, or an index or configuration that is invalid
    PENDING = 3  #: changes are pending (only with --exit-code)
    REFUSED = 4  #: refused by a safety, spending or trust rule
    PARTIAL = 5  #: some items failed, the others were done
    INTERRUPTED = 130  #: stopped by SIGINT: 128 + 2, as shells report it


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: `file:line`, or just `file` when the line is unknown (None)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        file = hide_secrets(self.file)
        return file if self.line is None else f"{file}:{self.line}"


class ReconcilerError(Exception):
    """Base of all errors that a user may read.

    `message` says what happened: lower case, without a final period, with values quoted. `where` is the place
    in a file, `hint` says what to do next. Secrets in the addresses that they quote are hidden.
    """

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None, where: Where | None = None) -> None:
        self.message = hide_secrets(message)
        super().__init__(self.message)
        self.hint = None if hint is None else hide_secrets(hint)
        self.where = where

    def __str__(self) -> str:
        return self.message if self.where is None else f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is unknown or impossible: `text` and `hint` as in an error; no hint is ""."""

    text: str
    hint: str = ""

    @classmethod
    def from_error(cls, error: ReconcilerError) -> Reason:
        """Return the message of `error`, with its place, and its hint."""
        return cls(str(error), error.hint or "")


class UserError(ReconcilerError):
    """A mistake of the user or the caller."""

    exit_code = ExitCode.USAGE


class InvalidIndexError(UserError):
    """The index, a record or targets.yaml is invalid."""


class FileChangedError(UserError):
    """A file changed between reading and replacing it; nothing was written."""

    def __init__(self, path: os.PathLike[str]) -> None:
        super().__init__(
            "the file changed meanwhile", hint="nothing was written; run again", where=Where(os.fspath(path))
        )


class UsageError(UserError):
    """A flag or an argument is invalid."""


class BundleError(ReconcilerError):
    """A source directory cannot be packed."""


class SourceChangedError(BundleError):
    """A source file changed after it was scanned or hashed."""


class DataError(ReconcilerError):
    """Data is malformed or fails verification, such as a CID, a CAR, a block or a digest."""


class BlockUnavailableError(DataError):
    """A block is missing or damaged in one source; another source may have it."""


class PeerError(ReconcilerError):
    """A peer failed: a target, a forge or a gateway is down, refuses, or breaks its protocol."""


class LockedError(ReconcilerError):
    """Another run holds the lock; the message names it."""


class SafetyError(ReconcilerError):
    """A safety rule stopped the run; the hint names the exact override."""

    exit_code = ExitCode.REFUSED


class TrustError(ReconcilerError):
    """A trust rule refused a release, its signatures or its history; nothing of it was read or written."""

    exit_code = ExitCode.REFUSED
