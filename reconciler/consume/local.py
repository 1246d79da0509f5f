"""Sources that need no gateway: a store, a CAR, a Kubo node, the targets of a repository."""

from __future__ import annotations

from pathlib import Path

from reconciler.content.car_dag import open_car
from reconciler.content.cid import Cid
from reconciler.errors import DataError, UsageError
from reconciler.net.client import HttpClient
from reconciler.progress import Progress
from reconciler.targets.healing import BlockSource, DagBlocks
from reconciler.targets.interface import Target
from reconciler.targets.kubo.dag import KuboBlocks
from reconciler.targets.kubo.rpc import KuboRpc, is_command_error
from reconciler.targets.store import StoreTarget


class Blocks:
    """Whatever serves the verified blocks of one root, under the name that a user knows it by."""

    def __init__(self, name: str, blocks: BlockSource, *, width: int = 2) -> None:
        self.name = name
        self.width = width
        self._blocks = blocks

    def read_block(self, cid: Cid, size: int | None) -> bytes:  # noqa: ARG002  found out by the source
        """As Source.read_block says."""
        return self._blocks.read_block(cid)

    def close(self) -> None:
        """Close it."""
        self._blocks.close()


def store_source(directory: Path, root: Cid) -> Blocks:
    """What the store in `directory` has of `root`. Raises UsageError where there is no store, and
    BlockUnavailable.
    """
    if not directory.is_dir():
        raise UsageError(f"no store at {str(directory)!r}")
    return Blocks(f"store {directory}", StoreTarget(str(directory), directory).blocks(root))


def car_source(file: Path, root: Cid, progress: Progress) -> Blocks:
    """The CAR in `file`, verified whole. Raises DataError when it does not hold or is of another root."""
    dag = open_car(file, progress)
    if dag.layout.root != root:
        dag.close()
        raise DataError(f"{str(file)!r} is a CAR of {dag.layout.root}, not of {root}")
    return Blocks(str(file), DagBlocks(dag))


def kubo_source(api: str) -> Blocks:
    """The Kubo node whose RPC API is at `api`. It is asked for what it has, and for nothing it would have to
    look for.
    """
    name = f"Kubo at {api.rstrip('/')}"
    rpc = KuboRpc(HttpClient(api, name=name, is_command_error=is_command_error))
    return Blocks(name, _Node(rpc), width=4)


def target_source(target: Target, root: Cid) -> Blocks:
    """What a target of this repository has of `root`. Raises as Target.dag does."""
    blocks = getattr(target, "blocks", None)
    return Blocks(target.name, blocks(root) if blocks is not None else DagBlocks(target.dag(root)))


class _Node(KuboBlocks):
    """Blocks of a node whose connections are ours."""

    def __init__(self, rpc: KuboRpc) -> None:
        super().__init__(rpc)
        self._http = rpc.http

    def close(self) -> None:
        """Close them."""
        self._http.close()
