"""Where the index of a command is, and what lies beside it."""

from __future__ import annotations

from pathlib import Path

from reconciler.errors import UsageError
from reconciler.loop.settings import Layout

INDEX = Path("releases/index.yaml")


def find_layout(
    directory: Path | None,
    index: Path | None = None,
    targets: Path | None = None,
    source_root: Path | None = None,
) -> Layout:
    """Where things are: `directory` if given, else the nearest directory upwards that has an index.

    Raises UsageError when there is no index, or when something given is not there.
    """
    if directory is not None and not directory.is_dir():
        raise UsageError(f"not a directory: {str(directory)!r}")
    root = directory if directory is not None else _upwards() if index is None else Path()
    file = index if index is not None else root / INDEX
    if not file.is_file():
        raise UsageError(
            f"no index at {str(file)!r}",
            hint="`reconcile init` makes one, `-C DIR` names another repository",
        )
    if targets is not None and not targets.is_file():
        raise UsageError(f"no targets file at {str(targets)!r}")
    if source_root is not None and not source_root.is_dir():
        raise UsageError(f"--source-root is not a directory: {str(source_root)!r}")
    return Layout(
        root=root,
        index_file=file,
        targets_file=targets if targets is not None else file.with_name("targets.yaml"),
        source_root=source_root if source_root is not None else root,
    )


def _upwards() -> Path:
    """The nearest directory upwards that has an index, written relative to here; else here."""
    steps = Path()
    for _ in Path.cwd().parts:
        if (steps / INDEX).is_file():
            return steps
        steps = steps / ".."
    return Path()
