"""Sending blocks to the Kubo behind a peer of a cluster: leaves in several streams, then the rest with a pin.

A CAR of leaves pins nothing. The last one has the inner nodes and pins the root, so that no pin waits for
blocks that are still being sent. A cluster accepts an incomplete CAR without an error, so the bytes that it
counted are compared with those of each CAR.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

from reconciler.content import car
from reconciler.content.dag import Dag
from reconciler.net.errors import UnexpectedResponseError
from reconciler.net.response import UploadBody
from reconciler.net.retry import NO_RETRY
from reconciler.progress import Progress
from reconciler.targets.ipfs_cluster.rest import ClusterRest, PinOptions
from reconciler.targets.upload_streams import RunCutter, SendJob, UploadStreams, is_far

_SMALL = {True: 2 << 20, False: 16 << 20}  # bytes that one stream sends with the pin; True: to a far peer


def send_blocks(
    rest: ClusterRest,
    dag: Dag,
    positions: Sequence[int],
    options: PinOptions | None,
    progress: Progress,
    title: str,
) -> int:
    """Send the blocks at `positions`, and pin the root unless `options` is None; return their bytes.

    Raises RequestError, and what reading `dag` raises.
    """
    layout = dag.layout
    leaves = [position for position in positions if layout.is_leaf(position)]
    rest_of_them = [position for position in positions if not layout.is_leaf(position)]
    size = sum(map(layout.block_size, positions))
    if size <= _SMALL[is_far(rest.http)] or not rest_of_them:
        leaves, rest_of_them = [], list(positions)
    total = car.partial_size(layout, positions)
    with closing(rest.http.apart()) as http, progress.task(title, total) as task:
        rest = ClusterRest(http)
        if leaves:
            streams = UploadStreams(rest.http, task)
            runs = RunCutter(layout, leaves)

            def take(size: int) -> SendJob | None:
                run = runs.cut(size)
                return partial(_add, rest, dag, run, None, streams) if run else None

            streams.run(take, lambda: runs.left)
        last = UploadStreams(rest.http, task, most=1)
        last.run_one(partial(_add, rest, dag, rest_of_them, options, last))
    return size


def _add(
    rest: ClusterRest,
    dag: Dag,
    positions: Sequence[int],
    options: PinOptions | None,
    streams: UploadStreams,
) -> None:
    layout = dag.layout
    body = UploadBody(
        car.partial_size(layout, positions),
        streams.counted(lambda: car.stream_partial(dag, positions)),
        "application/vnd.ipld.car",
    )
    size = sum(map(layout.block_size, positions))
    added = rest.add(body, options, NO_RETRY)
    if added.size != size or (options is not None and added.cid != str(layout.root)):
        raise UnexpectedResponseError(
            rest.http.name,
            f"accepted {added.size} bytes of blocks where {size} were sent",
            hint="check for a proxy that modifies or truncates request bodies",
        )
