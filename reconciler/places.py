"""Where the index of a command is, and what lies beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.index.user_config import config_file, load_config
from reconciler.loop.settings import Layout, Origin

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


def find_reading(
    directory: Path | None = None,
    index: str | None = None,
    *,
    gateways: Sequence[str] = (),
    offline: bool = False,
) -> Layout:
    """Where the index is for somebody who only reads it; an index elsewhere is brought here first.

    In this order: `index` (a file or an address), `directory`, RECONCILE_INDEX, the nearest directory upwards
    that has an index, the user's configuration. Raises UsageError where none of them names one, and what
    reading a remote one raises.
    """
    if index is None and directory is None:
        index = os.environ.get("RECONCILE_INDEX") or None
        if index is None and not (_upwards() / INDEX).is_file():
            index = load_config(config_file(os.environ)).index
    if index is None or "://" not in index:
        return find_layout(directory, Path(index).expanduser() if index is not None else None)
    from reconciler.consume.content_cache import default_cache
    from reconciler.consume.gateway import GatewaySource
    from reconciler.consume.remote_index import open_remote

    ways = gateways or load_config(config_file(os.environ)).gateways
    sources = (
        [GatewaySource(url) for url in ways]
        if index.startswith(("ipfs://", "ipns://")) and not offline
        else []
    )
    try:
        found = open_remote(index, default_cache(os.environ), offline=offline, sources=sources)
    finally:
        for source in sources:
            source.close()
    home = found.file.parent
    return Layout(
        root=home,
        index_file=found.file,
        targets_file=home / "targets.yaml",
        source_root=home,
        origin=Origin(index, found.commit),
    )
