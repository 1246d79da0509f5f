"""Mount points as destinations of a fetch.

A mount point cannot be replaced. Its staging directory is inside it, and finished entries are moved into it
one by one. A kill in between leaves some of them there; a mark file in the staging directory makes the next
run move them back first.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.fs import sync_directory

_LOST_AND_FOUND = "lost+found"  # directory of the file system at its top
_MARK = "moving"
_MOUNTS = Path("/proc/self/mountinfo")


def is_mount_point(path: Path) -> bool:
    """Return whether something is mounted at `path` itself, including a directory of the same file system."""
    if path.is_symlink():
        return False
    if os.path.ismount(path):
        return True
    real = os.fsencode(os.path.realpath(path))
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return False
    # proc_pid_mountinfo(5): the fifth field is the mount point, with octal escapes
    return any(_unescape(line.split(b" ")[4]) == real for line in lines if line.count(b" ") > 4)


def is_reserved(path: str, mount: Path) -> bool:
    """Return whether `path`, relative to a mount point, belongs to the file system or to a staging
    directory.
    """
    top = path.partition("/")[0]
    return top == _LOST_AND_FOUND or top.startswith(f".{mount.name}.fetch-")


def check_mount(mount: Path, stage: Path, names: Collection[str]) -> None:
    """Raise UsageError when `mount` contains anything but staging directories and entries from `stage`."""
    moved = names if (stage / _MARK).exists() else ()
    found = sorted(e.name for e in mount.iterdir() if e.name not in moved and not is_reserved(e.name, mount))
    if found:
        raise UsageError(
            f"destination {str(mount)!r} is not empty: it has {found[0]!r}",
            hint="it is a mount point, which cannot be replaced; fetch to a new directory in it",
        )


def move_into_mount(content: Path, mount: Path, stage: Path) -> None:
    """Move every entry of `content` into `mount`. Raises OSError."""
    (stage / _MARK).touch()
    sync_directory(stage)
    for entry in sorted(content.iterdir()):
        entry.rename(mount / entry.name)
    sync_directory(mount)


def undo_move(content: Path, mount: Path, stage: Path, names: Collection[str]) -> None:
    """Move entries back that an interrupted `move_into_mount` had moved. Raises OSError."""
    if not (stage / _MARK).exists():
        return
    content.mkdir(exist_ok=True)
    for name in names:
        if os.path.lexists(mount / name) and not os.path.lexists(content / name):
            (mount / name).rename(content / name)
    (stage / _MARK).unlink()


def _unescape(field: bytes) -> bytes:
    return field.decode("unicode_escape").encode("latin-1") if b"\\" in field else field
