"""A copy of this project's files that a test may do anything with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def project_files() -> list[Path]:
    """Every file of the project that is committed or could be, relative to its root, in order."""
    listing = subprocess.run(
        ["git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(set(filter(None, listing.stdout.split("\0"))))
    return [Path(name) for name in names if (PROJECT / name).is_file()]


def scratch_copy(destination: Path, *, commit: bool) -> Path:
    """Copy the project's files to `destination`; with `commit`, as the one commit of a new repository."""
    for file in project_files():
        (destination / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / file, destination / file)
    if commit:
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Start"]):
            subprocess.run(["git", "-C", destination, *arguments], check=True)
    return destination
