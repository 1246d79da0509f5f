"""A destination that is a mount point: it cannot be replaced, so finished files are moved into it one by one.

That takes a moment in which a kill leaves some of them there. A mark in the staging directory, which lies in
the mount as well, tells the next run to take them back first, so that it ends like any other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.content.destination import sync_directory
from reconciler.errors import UsageError

_OWN = "lost+found"  # the file system's own directory at its top
_MARK = "moving"
_MOUNTS = Path("/proc/self/mountinfo")


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path` itself, also a directory of the same file system."""
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
    return any(_unescaped(line.split(b" ")[4]) == real for line in lines if line.count(b" ") > 4)


def entries(mount: Path, stage: Path, names: Collection[str]) -> list[str]:
    """What lies in `mount` besides staging directories; while the mark is in `stage`, also besides what came
    from there.
    """
    ours = names if (stage / _MARK).exists() else ()
    return sorted(e.name for e in mount.iterdir() if e.name not in ours and not is_own(e.name, mount))


def check_empty(mount: Path, stage: Path, names: Collection[str]) -> None:
    """Raise UsageError where `mount` holds anything else than what `stage` put there."""
    found = entries(mount, stage, names)
    if found:
        raise UsageError(
            f"destination {str(mount)!r} is not empty: it has {found[0]!r}",
            hint="it is a mount point, which cannot be replaced; fetch to a new directory in it",
        )


def stage_name(destination: Path, root: Cid) -> str:
    """The name of the directory in which what is fetched of `root` is staged."""
    return f".{destination.name}.fetch-{str(root)[-16:]}"


def is_own(path: str, mount: Path) -> bool:
    """Whether `path`, relative to a mount point, is the file system's own, or staged there."""
    top = path.partition("/")[0]
    return top == _OWN or top.startswith(f".{mount.name}.fetch-")


def move_in(content: Path, mount: Path, stage: Path) -> None:
    """Move every entry of `content` into `mount`. Raises OSError."""
    (stage / _MARK).touch()
    sync_directory(stage)
    for entry in sorted(content.iterdir()):
        entry.rename(mount / entry.name)
    sync_directory(mount)


def tidy(mount: Path, root: Cid) -> None:
    """Remove the staging directory of a `move_in` that came to its end but for that."""
    shutil.rmtree(mount / stage_name(mount, root), ignore_errors=True)


def take_back(content: Path, mount: Path, stage: Path, names: Collection[str]) -> None:
    """Undo a `move_in` that did not come to its end. Raises OSError."""
    if not (stage / _MARK).exists():
        return
    content.mkdir(exist_ok=True)
    for name in names:
        if os.path.lexists(mount / name) and not os.path.lexists(content / name):
            (mount / name).rename(content / name)
    (stage / _MARK).unlink()


def _unescaped(field: bytes) -> bytes:
    return field.decode("unicode_escape").encode("latin-1") if b"\\" in field else field
