"""The places on this machine where the index says that the bytes of versions are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from reconciler import fs
from reconciler.errors import BundleError
from reconciler.index.model import Version


def locate(root: Path, version: Version) -> Path:
    """Return the path of the version's directory or CAR file below `root`, which may not exist.

    Links above it are followed once, here, so that a later change of a link has no effect. Raises BundleError
    when the index names no path, or the path leaves the source root through a link: an index from a fork must
    not make us publish other files of this machine.
    """
    if version.path is None:
        raise BundleError(f"the index names no path for {version.ref}", where=version.where)
    link = fs.escaping_link(root, version.path)
    if link is not None:
        raise BundleError(
            f"{version.path} leads outside the source root through the link {link!r}",
            hint="name the directory that contains the weights with --source-root",
            where=version.where,
        )
    path = root / version.path
    parent = path.parent.resolve()
    above = PurePosixPath(version.path).parent
    return path if parent == root.resolve() / above else parent / path.name
