"""Files that stand for something else: pointers in place of content, unfinished downloads, repositories.

Sources: the specification of Git LFS pointers, git-annex `doc/internals/pointer_file.mdwn`, the local
directory layout of huggingface_hub and ModelScope, and the suffixes that browsers and download tools use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from reconciler.content import lfs_pointer
from reconciler.content.lint.finding import Finding, FindingCode, Flaw, finding

_MAX_ANNEX_POINTER = 32 << 10

_LFS = re.compile(rb"version (?:https://git-lfs\.github\.com/spec/|https://hawser\.github\.com/spec/)v[0-9]")
_LEGACY_LFS = re.compile(rb"(?:version|#) http://git-media\.io/v/[0-9]|# xet version [0-9]")
_ANNEX = re.compile(rb"(?:(?:\.\./)*\.git)?/?annex/objects/[^\n]+")
_LINK_TEXT = re.compile(rb"(?:\.\./)+blobs/[0-9a-f]{40,64}\s*")

_PARTIAL_SUFFIXES = (
    ".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download", ".opdownload", ".filepart",
    ".!ut", ".!qb", ".xltd",
)  # fmt: skip
_PARTIAL_NAME = re.compile(r"sha256-[0-9a-f]{64}-partial(?:-[0-9]+)?|\._____temp|\.rsync-partial|\.~tmp~")
_BOOKKEEPING = re.compile(r"((?:.*/)?\.cache/(?:huggingface|modelscope))/.*")

_VERSION_CONTROL = {
    ".git": "git",
    ".hg": "Mercurial",
    ".svn": "Subversion",
    ".bzr": "Bazaar",
    ".jj": "Jujutsu",
}


def pointer_flaw(head: bytes, size: int) -> Flaw | None:
    """Return the flaw of a file that is a pointer to content elsewhere; `head` is its beginning."""
    if size < lfs_pointer.MAX_SIZE:
        if _LFS.match(head):
            return _pointer(
                "a Git LFS pointer", "get the files with `git lfs pull`, or name them with `source: lfs:PATH`"
            )
        if _LEGACY_LFS.match(head):
            return _pointer("a pointer of a git extension", "")
        if _LINK_TEXT.fullmatch(head):
            return _pointer(
                "the text of a symbolic link", "check the files out on a file system with symbolic links"
            )
    if size < _MAX_ANNEX_POINTER and _ANNEX.match(head):
        return _pointer("a git-annex pointer", "get the files with `git annex get`, then `git annex unlock`")
    return None


def _pointer(what: str, hint: str) -> Flaw:
    return Flaw(FindingCode.POINTER_FILE, f"is {what}, not the file itself", hint)


def partial_downloads(paths: Iterable[str]) -> Iterator[Finding]:
    """Yield a finding for each file or directory whose name says that a download was not finished."""
    reported: set[str] = set()
    for path in paths:
        place, reason = _partial_part(path)
        if place and place not in reported:
            reported.add(place)
            yield finding(FindingCode.PARTIAL_DOWNLOAD, place, f"{place!r} {reason}")


def _partial_part(path: str) -> tuple[str, str]:
    """Return the part of `path` that is a leftover and why; "" when none is."""
    parts = path.split("/")
    for number, name in enumerate(parts):
        place = "/".join(parts[: number + 1])
        lower = name.lower()
        suffix = next((each for each in _PARTIAL_SUFFIXES if lower.endswith(each) and lower != each), None)
        if suffix is not None:
            return place, f"is left from an interrupted download of {name[: -len(suffix)]!r}"
        if _PARTIAL_NAME.fullmatch(name):
            return place, "is left from an interrupted download"
    if (notes := _BOOKKEEPING.fullmatch(path)) is not None:
        return notes[1], "has the notes of a download tool, not content"
    return "", ""


def repositories(paths: Iterable[str], directories: Iterable[str]) -> Iterator[Finding]:
    """Yield a finding for each version control directory, or file in its place, and each bare repository."""
    paths, directories = list(paths), list(directories)
    found: dict[str, str] = {}
    for path in (*paths, *directories):
        parts = path.split("/")
        for number, name in enumerate(parts):
            if (tool := _VERSION_CONTROL.get(name.lower())) is not None:
                found.setdefault("/".join(parts[: number + 1]), tool)
                break
    for place in _bare_repositories(paths, directories):
        found.setdefault(place, "git")
    for place, tool in found.items():
        shown = repr(place) if place else "the directory"
        yield finding(
            FindingCode.VERSION_CONTROL,
            place,
            f"{shown} is a {tool} repository: it can contain passwords and earlier versions of files",
        )


def _bare_repositories(paths: list[str], directories: list[str]) -> Iterator[str]:
    known = set(directories)
    for path in paths:
        if path != "HEAD" and not path.endswith("/HEAD"):
            continue
        place = path.removesuffix("HEAD")
        if {place + "objects", place + "refs"} <= known and ".git" not in place.lower().split("/"):
            yield place.removesuffix("/")
