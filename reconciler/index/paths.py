"""Which `path` of a version is safe: relative, inside, and dull to every shell, workflow and file system."""

from __future__ import annotations

import re
import unicodedata

_DULL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*")
_DRIVE = re.compile(r"[A-Za-z]:")
_ACTIVE = re.compile(r"[$`\"'<>|;&*?!{}]")


def path_problem(path: str) -> tuple[str, str] | None:
    """What is wrong with `path` and what to do, or None when it holds."""
    if _DULL.fullmatch(path):
        return None
    if path.startswith("/") or _DRIVE.match(path):
        return "is absolute", "write it relative to the repository, or use --source-root"
    if "\\" in path:
        return "has a backslash", "separate names with '/'"
    if path.startswith("~"):
        return "begins with '~'", "write it relative to the repository, or use --source-root"
    if not all(character.isprintable() for character in path):
        return "has a control character", "rename the directory"
    if found := _ACTIVE.search(path):
        return (
            f"has the character {found.group()!r}, which shells or workflows act on",
            "rename the directory",
        )
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode form NFC", "rename the directory in its composed form"
    for name in path.split("/"):
        if name == "..":
            return "leads out of the repository ('..')", "write it without '..', or use --source-root"
        if name in ("", "."):
            return "has an empty or '.' part", "write it like weights/my-llm/1.2.0"
        if len(name.encode()) > 255:
            return "has a name longer than 255 bytes", "rename the directory"
    return None
