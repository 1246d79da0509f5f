"""Read and damage the files of a store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from reconciler.content import car
from reconciler.content.dag import Dag


def car_path(directory: Path, dag: Dag) -> Path:
    """Return the path of the CAR of `dag` in the store at `directory`."""
    return directory / "cars" / f"{dag.layout.root}.car"


def snapshot(directory: Path) -> dict[str, tuple[int, int, str]]:
    """Return inode, mtime and sha256 of every file except the lock, by relative path."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if name != "lock":
                status = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(directory))] = (status.st_ino, status.st_mtime_ns, digest)
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Return the bytes of every file except the lock, by relative path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def canonical(dag: Dag) -> bytes:
    """Return the CAR that a store must have for `dag`."""
    return b"".join(car.stream(dag))


def harm(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a few bytes in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
