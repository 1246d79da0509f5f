"""Files in memory for the examination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext

from reconciler.content.lint.examine import examine
from reconciler.content.lint.files import LintFile, LintSubject
from reconciler.content.lint.finding import Finding, Flaw, ReadAt


def reader(data: bytes) -> ReadAt:
    """Return a ReadAt over `data`; it refuses to read more than the examination may."""

    def read(size: int, offset: int) -> bytes:
        assert 0 <= offset <= len(data) + 8, "a read beyond the end of the file"
        assert 0 <= size <= 64 << 20
        return data[offset : offset + size]

    return read


def subject(files: Mapping[str, bytes], *directories: str) -> LintSubject:
    """Return the files of a release by path; the directories above them are added."""
    above = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    listed = (
        LintFile(path, len(data), lambda data=data: nullcontext(reader(data))) for path, data in files.items()
    )
    return LintSubject(tuple(listed), tuple(sorted({*directories, *above})))


def findings(files: Mapping[str, bytes], *directories: str) -> tuple[Finding, ...]:
    """Return what the examination finds in a licensed release."""
    return examine(subject(files, *directories), licensed=True)


def codes(files: Mapping[str, bytes], *directories: str) -> list[tuple[str, str]]:
    """Return the code and the path of each finding."""
    return [(str(found.code), found.path) for found in findings(files, *directories)]


def names(flaws: Iterable[Flaw]) -> list[str]:
    """Return the codes of flaws."""
    return [str(flaw.code) for flaw in flaws]
