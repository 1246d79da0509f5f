"""A DAG read from a CAR of the store, each block verified."""

from __future__ import annotations

import os

from reconciler.content.dag import DagLayout
from reconciler.targets.store.layouts import read_block


class CarFileDag:
    """The Dag of one CAR. It owns `fd`. Blocks that are damaged raise BlockUnavailable when they are read."""

    def __init__(self, fd: int, layout: DagLayout) -> None:
        self._fd: int | None = fd
        self._layout = layout

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """The verified bytes of the block at `position`. Raises BlockUnavailable."""
        if self._fd is None:
            raise ValueError("read from a closed DAG")
        layout = self._layout
        return read_block(
            self._fd, layout.data_start(position), layout.cid(position), layout.block_size(position)
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
