"""Pickles, recognized by name and by header, also inside the ZIP files of torch.

Loading a pickle executes what it says. Nothing is unpickled here. Sources: Python's `Lib/pickle.py`, PKWARE's
APPNOTE.TXT for ZIP, `torch/serialization.py`, and `numpy/lib/format.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from reconciler.content.lint.finding import FindingCode, Flaw, ReadAt

#: extensions of files that are pickles by convention
_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pck", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth"})
_ZIP_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".npz", ".keras", ".zip", ".pt2", ".mar"})

_BINARY = re.compile(rb"\x80[\x02-\x05][\x95}\](c\x8aXKMJGN\x88\x89\x8c)\x8dB\x8eC]")
_TEXT = re.compile(
    rb"[}\]]q\x00[(.KXUM]|\([dl]p[0-9]+\n|c[A-Za-z_][A-Za-z0-9_.]*\n[A-Za-z_][A-Za-z0-9_]*\n|\(i[A-Za-z_]"
)
_NUMPY = b"\x93NUMPY"
_OBJECTS = re.compile(rb"""['"]\|?O[0-9]*['"]""")
_LOCAL_HEADER = b"PK\x03\x04"
_END = b"PK\x05\x06"
_END_SIZE = 22
_MAX_COMMENT = 65_535
_END64 = b"PK\x06\x06"
_LOCATOR64, _LOCATOR64_SIZE = b"PK\x06\x07", 20
_ENTRY, _ENTRY_SIZE = b"PK\x01\x02", 46
_UNKNOWN32 = 0xFFFFFFFF
MAX_DIRECTORY = 4 << 20  #: bytes of a ZIP directory that are read

_RUNS_CODE = "loading it can run code"


def pickle_flaws(path: str, head: bytes, read: ReadAt, size: int) -> Iterator[Flaw]:
    """Yield the flaws of a file that begins with `head` as a pickle or a ZIP file."""
    suffix = PurePosixPath(path).suffix.lower()
    if head.startswith(_LOCAL_HEADER):
        directory = _zip_directory(read, size)
        if directory is None and suffix in _ZIP_SUFFIXES:
            yield Flaw(FindingCode.TRUNCATED_FILE, "is truncated: it is a ZIP file without its end")
        elif directory is not None and (name := _pickle_in(directory)) is not None:
            yield Flaw(FindingCode.PICKLE, f"contains the pickle {name!r}: {_RUNS_CODE}")
            return
    if head.startswith(_NUMPY):
        if _OBJECTS.search(head[:4096].partition(b"\n")[0]):
            yield Flaw(FindingCode.PICKLE, f"contains pickled objects in a NumPy array: {_RUNS_CODE}")
    elif is_pickle(head, read, size) or suffix in _PICKLE_SUFFIXES:
        yield Flaw(FindingCode.PICKLE, f"is a pickle: {_RUNS_CODE}")


def is_pickle(head: bytes, read: ReadAt, size: int) -> bool:
    """Return whether a file begins as pickles do; one of the text protocols also ends with a period."""
    if _BINARY.match(head):
        return True
    return _TEXT.match(head) is not None and read(2, max(size - 2, 0)).rstrip(b"\n").endswith(b".")


def _zip_directory(read: ReadAt, size: int) -> bytes | None:
    """Return the directory of a ZIP file, cut to MAX_DIRECTORY; None when the file has no end."""
    tail_start = max(0, size - _END_SIZE - _MAX_COMMENT - _LOCATOR64_SIZE)
    tail = read(size - tail_start, tail_start)
    at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        return None
    length, offset = _number(tail, at + 12, 4), _number(tail, at + 16, 4)
    locator = tail[max(0, at - _LOCATOR64_SIZE) : at]
    if _UNKNOWN32 in (length, offset) and locator.startswith(_LOCATOR64):
        place = _number(locator, 8, 8)
        end = read(56, place) if place < size else b""
        if not end.startswith(_END64):
            return None
        length, offset = _number(end, 40, 8), _number(end, 48, 8)
    return b"" if offset >= size else read(min(length, MAX_DIRECTORY, size - offset), offset)


def _pickle_in(directory: bytes) -> str | None:
    """Return the name of the first pickle that a ZIP directory lists."""
    at = 0
    while directory[at : at + 4] == _ENTRY and at + _ENTRY_SIZE <= len(directory):
        name_size = _number(directory, at + 28, 2)
        name = directory[at + _ENTRY_SIZE : at + _ENTRY_SIZE + name_size]
        if name.lower().endswith((b".pkl", b".pickle")):
            return name.decode("utf-8", "replace")
        at += _ENTRY_SIZE + name_size + _number(directory, at + 30, 2) + _number(directory, at + 32, 2)
    return None


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
