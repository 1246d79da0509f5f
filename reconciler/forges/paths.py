"""Which paths a proposal may set: relative, POSIX, inside the repository, never git's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.errors import UsageError

# Names under which git's own directory is reached on some file system (git's
# `core.protectHFS`/`protectNTFS`).
_GIT_NAMES = {".git", "git~1"}
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)


def check_files(files: Mapping[str, bytes]) -> None:
    """Raise UsageError for a path that could leave the repository or reach git's own directory."""
    for path in files:
        if not _is_safe(path):
            raise UsageError(
                f"the path {path!r} cannot be proposed",
                hint="a path is relative to the repository, without '.', '..' or '.git' in it",
            )
    for path in files:
        for parent in parents(path):
            if parent in files:
                raise UsageError(f"{parent!r} cannot be both a file and the directory of {path!r}")


def parents(path: str) -> Iterable[str]:
    """The directories above `path`, outermost first: `a/b/c` gives `a`, `a/b`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _is_safe(path: str) -> bool:
    if not path or "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        return False
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return all(_is_safe_name(name) for name in path.split("/"))


def _is_safe_name(name: str) -> bool:
    folded = name.translate(_IGNORED_BY_HFS).rstrip(" .").casefold()
    return name not in {"", ".", ".."} and folded not in _GIT_NAMES and not folded.startswith(".git:")
