"""Scratch copies of this project's files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def project_files() -> list[Path]:
    """Return every file that is committed or not ignored, relative to the root, in order."""
    listing = subprocess.run(
        ["git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(set(filter(None, listing.stdout.split("\0"))))
    return [Path(name) for name in names if (PROJECT / name).is_file()]


def scratch_copy(destination: Path, *, commit: bool) -> Path:
    """Copy the project's files to `destination`; with `commit`, as a repository with one commit."""
    for file in project_files():
        (destination / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / file, destination / file)
    if commit:
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Start"]):
            subprocess.run(["git", "-C", destination, *arguments], check=True)
    return destination
