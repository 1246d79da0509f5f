"""Receipts: a fetched directory is recognized by the stamps of its files, as in the index of git.

A receipt names the root and the selection that were verified, and the device, inode, size, mtime and ctime of
every file. It is written after the clock of the file system has passed the newest of these times, so a later
write changes a stamp. It is not proof: a writer that set the clock back, or that writes through a memory map
made before, leaves the stamps as they are. Receipts are therefore off by default, lie in the user's cache,
and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from reconciler.consume.existing import survey_directory
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, ReconcilerError
from reconciler.fs import clock_of, staged_file
from reconciler.json_fields import JsonFields, load_json

_VERSION = 1
_PATIENCE = 3.0  # seconds; the clocks of file systems tick every two seconds or faster


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What was fetched: the root as requested, the path below it, the globs, and whether it stays sealed."""

    root: Cid
    path: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    keeps_sealed: bool = False

    def key(self) -> tuple[str, ...]:
        """Return it as texts."""
        globs = (*(f"+{g}" for g in self.include), *(f"-{g}" for g in self.exclude))
        return (str(self.root), self.path, *globs, *(["sealed"] if self.keeps_sealed else []))


@dataclass(frozen=True, slots=True)
class DirectoryReceipt:
    """A verified destination: the root that it has, and the number and bytes of its files."""

    root: Cid
    files: int
    size: int


class ReceiptBook:
    """The receipts in `directory`, one for each destination."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, destination: Path, request: FetchRequest) -> DirectoryReceipt | None:
        """Return the receipt of `destination`, None unless it is for `request` and every stamp is equal."""
        try:
            fields = JsonFields(load_json(self._file(destination).read_bytes()), DataError)
            if fields.number("version") != _VERSION or fields.texts("request") != request.key():
                return None
            survey = survey_directory(destination)
            stamps = {path: list(astuple(stamp)) for path, stamp in survey.files.items()}
            if survey.others or stamps != fields.at("files").value:
                return None
            root = cids.parse_canonical(fields.text("root"))
        except (OSError, ValueError, ReconcilerError):
            return None
        return DirectoryReceipt(root, len(stamps), sum(stamp.size for stamp in survey.files.values()))

    def write(self, destination: Path, request: FetchRequest, root: Cid) -> None:
        """Write a receipt for `destination`, which was just verified; none when its clock stands still.

        Failures are ignored: the next fetch reads the files.
        """
        try:
            survey = survey_directory(destination)
            newest = max((stamp.ctime_ns for stamp in survey.files.values()), default=0)
            if survey.others or not _wait_for_clock(destination, newest):
                return
            if survey_directory(destination) != survey:
                return
            document = {
                "version": _VERSION,
                "request": request.key(),
                "root": str(root),
                "files": {path: list(astuple(stamp)) for path, stamp in survey.files.items()},
            }
            file = self._file(destination)
            file.parent.mkdir(parents=True, exist_ok=True)
            with staged_file(file, sync=False) as descriptor, open(descriptor, "wb", closefd=False) as out:
                out.write(json.dumps(document).encode())
        except (OSError, ReconcilerError):
            return

    def _file(self, destination: Path) -> Path:
        name = hashlib.sha256(os.fsencode(os.path.realpath(destination))).hexdigest()
        return self._directory / f"{name}.json"


def _wait_for_clock(destination: Path, newest: int) -> bool:
    """Wait until a new file beside `destination` gets a later ctime than `newest`, in nanoseconds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        if clock_of(destination.parent) > newest:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
