"""Sources other than gateways: a store, a CAR, a Kubo node, a target of a repository."""

from __future__ import annotations

from pathlib import Path

from reconciler.content.car_dag import open_car
from reconciler.content.cid import Cid
from reconciler.errors import DataError, UsageError
from reconciler.net.auth import Auth
from reconciler.net.client import HttpClient
from reconciler.progress import Progress
from reconciler.redaction import shown_address
from reconciler.targets.healing import BlockSource, DagBlocks, open_blocks
from reconciler.targets.interface import Target
from reconciler.targets.kubo.dag import KuboBlocks
from reconciler.targets.kubo.rpc import KuboRpc, is_command_error
from reconciler.targets.store import StoreTarget


class NamedSource:
    """A Source that reads the verified blocks of a BlockSource; `name` is shown to the user."""

    def __init__(self, name: str, blocks: BlockSource, *, width: int = 2) -> None:
        self.name = name
        self.width = width
        self._blocks = blocks

    def read_block(self, cid: Cid, size: int | None) -> bytes:  # noqa: ARG002  the source knows the size
        """See Source.read_block."""
        return self._blocks.read_block(cid)

    def close(self) -> None:
        """Close the underlying source."""
        self._blocks.close()


def store_source(directory: Path, root: Cid) -> NamedSource:
    """Open the blocks of `root` in the store at `directory`.

    Raises UsageError when there is no store, BlockUnavailableError when it has nothing of `root`.
    """
    if not directory.is_dir():
        raise UsageError(f"no store at {str(directory)!r}")
    return NamedSource(f"store {directory}", StoreTarget(str(directory), directory).blocks(root))


def car_source(file: Path, root: Cid, progress: Progress) -> NamedSource:
    """Open the CAR `file` and verify all of it. Raises DataError when it is malformed, contains a damaged
    block, or has another root than `root`.
    """
    dag = open_car(file, progress)
    if dag.layout.root != root:
        dag.close()
        raise DataError(f"{str(file)!r} is a CAR of {dag.layout.root}, not of {root}")
    return NamedSource(str(file), DagBlocks(dag))


def kubo_source(api: str, auth: Auth | None = None) -> NamedSource:
    """Open the Kubo node whose RPC API is at `api`. Only blocks in its own repository are read; the node does
    not search the network for others.
    """
    name = f"Kubo at {shown_address(api).rstrip('/')}"
    rpc = KuboRpc(HttpClient(api, name=name, auth=auth, is_command_error=is_command_error))
    return NamedSource(name, _OwnedKuboBlocks(rpc), width=4)


def target_source(target: Target, root: Cid) -> NamedSource:
    """Open the blocks of `root` in a target of a repository. Raises as Target.dag does."""
    return NamedSource(target.name, open_blocks(target, root))


class _OwnedKuboBlocks(KuboBlocks):
    """The blocks of a Kubo node whose connections are closed with the source."""

    def __init__(self, rpc: KuboRpc) -> None:
        super().__init__(rpc)
        self._http = rpc.http

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
