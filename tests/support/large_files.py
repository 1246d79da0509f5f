"""Large files that take no room: a few bytes of each MiB differ, and the rest are holes."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20


def sparse_file(path: Path, size: int, first: int = 0) -> None:
    """Write a sparse file in which no two leaves of 1 MiB are equal; `first` numbers them across files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        for number, start in enumerate(range(0, size, MIB), first):
            file.seek(start)
            file.write(number.to_bytes(8, "big") + b"\1")
