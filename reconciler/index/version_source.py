"""Where the bytes of a version are: a `path` in the repository, or a `source`, written NAME:LOCATION.

`releases/sources.yaml` says what a NAME means; the index never has an address. What a LOCATION must look like
depends on the kind of the source. A source that has revisions is named with a commit, since a branch or tag
may move: `reconcile add` looks the commit up.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.errors import DataError, Where
from reconciler.index.guarded_yaml import shown

BUILT_IN_SOURCES: Mapping[str, str] = {"hf": "huggingface", "lfs": "lfs"}  #: names without a declaration
HUB_DATASETS = "datasets/"  #: begins the locations of data sets on a Hugging Face Hub

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*")
_DRIVE = re.compile(r"[A-Za-z]:")
_METACHARACTER = re.compile(r"[$`\"'<>|;&*?!{}]")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}")
_HUB_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_HUB_ADDRESS = re.compile(
    r"(?:https?://(?:huggingface\.co|hf\.co)/|hf://)"
    r"(?P<repository>(?:datasets/)?[\w.-]+/[\w.-]+)(?:(?:/(?:tree|blob|resolve)/|@)(?P<revision>[\w.-]+))?",
    re.ASCII,
)
_MAX_LOCATION = 1024  # characters


@dataclass(frozen=True, slots=True)
class SourceReference:
    """A `source` of the index: the `name` of a source, and a `location` in it. `where` is its line."""

    name: str
    location: str
    where: Where | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.name}:{self.location}"

    @property
    def revision(self) -> str | None:
        """The commit, tag or branch at the end of the location, None without one."""
        return self.location.rpartition("@")[2] if "@" in self.location else None


def parse_source(text: str, where: Where | None = None) -> SourceReference:
    """Return the reference NAME:LOCATION.

    Raises DataError, whose message continues a sentence that begins with the text.
    """
    name, colon, location = text.partition(":")
    if location.startswith("//") or "://" in text:
        hint = "declare a name for it in releases/sources.yaml, and write NAME:LOCATION"
        if (hub := _HUB_ADDRESS.match(text)) and _is_location(hub["repository"]):
            hint = f"for this repository, write hf:{hub['repository']}@{hub['revision'] or 'main'}"
        raise DataError("is an address, which an index never contains", hint=hint)
    if not colon or not _NAME.fullmatch(name):
        raise DataError("is not NAME:LOCATION", hint="for example hf:org/name@COMMIT")
    if not location:
        raise DataError(f"has no location after {name + ':'!r}", hint="write NAME:LOCATION")
    if len(location) > _MAX_LOCATION:
        raise DataError(f"is longer than {_MAX_LOCATION} characters")
    if problem := path_problem(location.removesuffix("/")):
        raise DataError(problem[0], hint=_LOCATION_HINTS.get(problem[0], problem[1]))
    return SourceReference(name, location, where)


_LOCATION_HINTS = {"is absolute": "write it relative to what the name is declared as"}


def check_location(reference: SourceReference, kind: str) -> None:
    """Raise DataError when a source of `kind` can have no such location, or one whose content may move."""
    if kind == "huggingface":
        check_repository(reference)
        _require_commit(reference)


def is_commit(revision: str | None) -> bool:
    """Return whether `revision` is a full git commit id, which never means anything else later."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def check_repository(reference: SourceReference) -> None:
    """Raise DataError when the location names no repository of a Hugging Face Hub."""
    if not _is_location(reference.location.rpartition("@")[0] or reference.location):
        raise DataError(
            "is not a repository of a Hugging Face Hub",
            hint=f"write {reference.name}:org/name@COMMIT, or {reference.name}:datasets/org/name@COMMIT",
        )


def is_repository(text: str) -> bool:
    """Return whether `text` has the form of a repository with its owner on a Hugging Face Hub."""
    return text.count("/") == 1 and _is_location(text)


def _is_location(repository: str) -> bool:
    parts = repository.removeprefix(HUB_DATASETS).split("/")
    return len(parts) <= 2 and all(_HUB_PART.fullmatch(part) for part in parts)


def _require_commit(reference: SourceReference) -> None:
    revision = reference.revision
    if is_commit(revision):
        return
    if revision is None:
        what = "names no commit"
        wanted = f"{reference}@main"
    elif _SHORT_COMMIT.fullmatch(revision):
        what = f"names the commit {revision!r}, which is not 40 lower-case hex digits"
        wanted = str(reference)
    else:
        what = f"names the branch or tag {shown(revision)}, which may move"
        wanted = str(reference)
    raise DataError(what, hint=f"`reconcile add MODEL VERSION {wanted}` adds it with its commit")


def path_problem(path: str) -> tuple[str, str] | None:
    """Return what is wrong with the `path` of a version and a hint, None when it is safe.

    A safe path is relative, stays in the repository, and has no character that a shell, a workflow or a file
    system interprets.
    """
    if _PLAIN_PATH.fullmatch(path):
        return None
    if path.startswith("/") or _DRIVE.match(path):
        return "is absolute", "write it relative to the repository, or use --source-root"
    if "\\" in path:
        return "has a backslash", "separate names with '/'"
    if path.startswith("~"):
        return "begins with '~'", "write it relative to the repository, or use --source-root"
    if not all(character.isprintable() for character in path):
        return "has a control character", "rename the directory"
    if found := _METACHARACTER.search(path):
        return (
            f"has the character {found.group()!r}, which shells or workflows interpret",
            "rename the directory",
        )
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode form NFC", "rename the directory in its composed form"
    for name in path.split("/"):
        if name == "..":
            return "leaves the repository ('..')", "write it without '..', or use --source-root"
        if name in ("", "."):
            return "has an empty or '.' part", "write it like weights/my-llm/1.2.0"
        if len(name.encode()) > 255:
            return "has a name longer than 255 bytes", "rename the directory"
    return None
