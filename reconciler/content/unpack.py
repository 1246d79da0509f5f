"""A verified DAG as files: staged beside the destination, there at once or not at all.

Everything is written and synced below `.<name>.partial-…` in the destination's parent and appears by rename.
The names were checked by `walk`, the DAG has no symlinks, and the staging directory is ours alone, so nothing
is written outside it. What a killed run left behind is removed by the next one for the same destination.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.destination import appear, check_free, check_space, lock_directory, sync_directory
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes, walk
from reconciler.errors import BlockUnavailable, DataError, ReconcilerError, UsageError
from reconciler.progress import Progress, Task

_CONTENT = "content"  # the one entry of a staging directory


def unpack(dag: Dag, destination: Path, progress: Progress) -> None:
    """Write the files of `dag` to `destination`: a directory, or a single file when the DAG is one.

    The destination must not exist or be an empty directory; missing parents are made. Raises UsageError when
    it is taken, DataError when the DAG does not hold or has a symlink, ReconcilerError when the disk cannot
    take it, and what `dag.read` raises. On any error the destination is as it was.
    """
    destination = destination.absolute()
    if destination.name in ("", ".."):
        raise UsageError(f"destination {str(destination)!r} has no name of its own")
    dag_map = map_dag(dag)
    for node in dag_map.nodes:
        if node.kind is NodeKind.SYMLINK:
            raise DataError(
                f"{node.path or 'the root'!r} is a symlink; a bundle has none and none is written"
            )
    try:
        check_free(destination, single_file=any(not node.path for node in dag_map.nodes))
        destination.parent.mkdir(parents=True, exist_ok=True)
        check_space(destination.parent, dag_map.size)
        with _staging(destination) as stage:
            content = stage / _CONTENT
            with progress.task(f"unpack {destination.name}", dag_map.size) as task:
                _write(dag, dag_map, content, task)
            appear(content, destination)
    except OSError as error:
        raise ReconcilerError(f"cannot write {str(destination)!r}: {error.strerror}") from error


def map_dag(dag: Dag) -> DagMap:
    """The inner nodes and the file list of `dag`. Raises DataError, and what `dag.read` raises."""
    layout = dag.layout

    def read(cid: Cid) -> bytes:
        position = layout.find(cid)
        if position is None:
            raise BlockUnavailable(f"block {cid} is not among the blocks of {layout.root}")
        return dag.read(position)

    root = layout.find(layout.root)
    return walk(layout.root, read, raw_size=None if root is None else layout.block_size(root))


def _write(dag: Dag, dag_map: DagMap, content: Path, task: Task) -> None:
    directories = [] if any(not node.path for node in dag_map.nodes) else [content]
    for directory in directories:
        directory.mkdir()
    for node in dag_map.nodes:
        path = content / node.path
        if node.kind is NodeKind.DIRECTORY:
            path.mkdir()
            directories.append(path)
        else:
            _write_file(dag, dag_map, node, path, task)
    for directory in reversed(directories):
        sync_directory(directory)


def _write_file(dag: Dag, dag_map: DagMap, node: FileNode, path: Path, task: Task) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        for leaf in dag_map.leaves(node):
            position = dag.layout.find(dag_map.layout.cid(leaf.position))
            if position is None:
                place = dag_map.locate(leaf.position)
                raise BlockUnavailable(f"block {dag_map.layout.cid(leaf.position)} ({place}) is missing")
            data = leaf_bytes(dag.layout, position, dag.read(position))
            if len(data) != leaf.size:
                raise DataError(
                    f"{node.path!r} at byte {leaf.offset}: a leaf of {len(data)} bytes, "
                    f"but the node above it says {leaf.size}"
                )
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            task.advance(len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    """A fresh directory beside `destination`, gone afterwards. A lock tells it from one a killed run left."""
    prefix = f".{destination.name}.partial-"
    for entry in destination.parent.iterdir():
        if entry.name.startswith(prefix):
            _remove_if_abandoned(entry)
    while True:
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
        descriptor = lock_directory(stage)
        if descriptor is not None:
            break
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(descriptor)


def _remove_if_abandoned(stage: Path) -> None:
    descriptor = lock_directory(stage)
    if descriptor is not None:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(descriptor)
