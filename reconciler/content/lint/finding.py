"""The findings of an examination: a code with its severity, a path, an explanation and a way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

ReadAt = Callable[[int, int], bytes]
"""`read(size, offset)` returns that many bytes of a file, fewer only at its end."""


class Severity(StrEnum):
    """What a finding means for a version that is not published yet."""

    NEVER = "never"  #: not published, without an override
    BLOCKED = "blocked"  #: not published, unless the version in the index accepts it
    WARNING = "warning"  #: published, and reported


class FindingCode(StrEnum):
    """The kind of a finding; `accept` in the index and JSON documents use these names."""

    POINTER_FILE = "pointer-file"
    VERSION_CONTROL = "version-control"
    CREDENTIALS = "credentials"
    PRIVATE_KEY = "private-key"
    MISSING_FILE = "missing-file"
    PARTIAL_DOWNLOAD = "partial-download"
    TRUNCATED_FILE = "truncated-file"
    IGNORED_FILE = "ignored-file"
    EMPTY_DIRECTORY = "empty-directory"
    EMPTY_FILE = "empty-file"
    PICKLE = "pickle"
    INVALID_HEADER = "invalid-header"
    UNALIGNED_TENSOR = "unaligned-tensor"
    UNEXAMINED_FILE = "unexamined-file"
    NO_LICENSE = "no-license"

    @property
    def severity(self) -> Severity:
        """What this kind of finding means for a version that is not published yet."""
        if self in _NEVER:
            return Severity.NEVER
        return Severity.BLOCKED if self in ACCEPTABLE else Severity.WARNING

    @property
    def leaks(self) -> bool:
        """Whether publishing would reveal a secret, which no later removal takes back."""
        return self in (FindingCode.VERSION_CONTROL, FindingCode.CREDENTIALS, FindingCode.PRIVATE_KEY)


_NEVER = frozenset({FindingCode.POINTER_FILE, FindingCode.VERSION_CONTROL, FindingCode.CREDENTIALS})

#: what a version in the index may accept
ACCEPTABLE = (
    FindingCode.MISSING_FILE,
    FindingCode.PARTIAL_DOWNLOAD,
    FindingCode.TRUNCATED_FILE,
    FindingCode.PRIVATE_KEY,
)

_HINTS = {
    FindingCode.POINTER_FILE: "get the files themselves first, with the tool that wrote the pointers",
    FindingCode.VERSION_CONTROL: "leave it out with `exclude` in the index, or move it out of the directory",
    FindingCode.CREDENTIALS: "leave it out with `exclude` in the index; if it is public already, revoke it",
    FindingCode.PRIVATE_KEY: "leave it out with `exclude` in the index; if it is public already, replace it",
    FindingCode.MISSING_FILE: "complete the files",
    FindingCode.PARTIAL_DOWNLOAD: "finish the download; delete the file if it is out of date",
    FindingCode.TRUNCATED_FILE: "download or copy the file again",
    FindingCode.IGNORED_FILE: "`git add --force` adds it to git, `exclude` in the index leaves it out",
    FindingCode.EMPTY_DIRECTORY: "remove the directory, or put a file into it",
    FindingCode.EMPTY_FILE: "check that it was written completely",
    FindingCode.PICKLE: "convert it to safetensors",
    FindingCode.INVALID_HEADER: "write or download the file again",
    FindingCode.UNALIGNED_TENSOR: "save the file again with a current library",
    FindingCode.UNEXAMINED_FILE: "check the file with its own tools",
    FindingCode.NO_LICENSE: "add `license` to the model in the index, or a LICENSE file",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that should not enter a release.

    `path` is relative to the directory, "" for the release as a whole. `message` explains it and names the
    path, `hint` says what to do. `accepted`: the version in the index accepts its code.
    """

    code: FindingCode
    path: str
    message: str
    hint: str
    accepted: bool = False

    @property
    def refuses(self) -> bool:
        """Whether the release must not be published with it."""
        return not self.accepted and self.code.severity is not Severity.WARNING

    @property
    def override(self) -> str:
        """The line of the index that accepts it; "" where nothing does."""
        return f"accept: [{self.code}]" if self.code in ACCEPTABLE else ""

    @property
    def advice(self) -> str:
        """`hint`, with the override where there is one."""
        return f"{self.hint}; to publish it all the same: `{self.override}`" if self.override else self.hint


@dataclass(frozen=True, slots=True)
class Flaw:
    """A finding about one file without its path; `text` continues a sentence that begins with the path."""

    code: FindingCode
    text: str
    hint: str = ""


def finding(code: FindingCode, path: str, message: str, hint: str = "") -> Finding:
    """Return a finding, with the usual hint of its code unless `hint` is given."""
    return Finding(code, path, message, hint or _HINTS[code])


def of_file(path: str, flaw: Flaw) -> Finding:
    """Return the finding that `flaw` is for the file at `path`."""
    return finding(flaw.code, path, f"{path!r} {flaw.text}", flaw.hint)


def finding_fields(found: Finding) -> dict[str, str | bool]:
    """Return `found` as the fields that JSON documents have for it."""
    return {
        "code": found.code.value,
        "severity": found.code.severity.value,
        "accepted": found.accepted,
        "path": found.path,
        "message": found.message,
        "hint": found.hint,
        "override": found.override,
    }


def severity_order(found: Finding) -> tuple[int, str, bytes]:
    """Return a sort key: what refuses first, then by code and path."""
    rank = list(Severity).index(found.code.severity)
    return rank + 3 * found.accepted, found.code, found.path.encode("utf-8", "surrogateescape")
