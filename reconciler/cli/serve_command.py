"""`reconcile serve` and `reconcile import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.cli import output as out
from reconciler.content.car_dag import open_car
from reconciler.errors import ExitCode, UsageError
from reconciler.index.model import IMPORT_MARK
from reconciler.render.words import count, plain, size
from reconciler.targets.store import StoreTarget


def serve_stores(stores: Sequence[Path], listen: str, announce: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Raises what `serve` raises."""
    from reconciler.gateway.server import parse_listen, serve

    address = parse_listen(listen)
    for store in stores:
        if not store.is_dir():
            raise UsageError(
                f"no store at {str(store)!r}", hint="`reconcile` or `reconcile import` makes one"
            )
    serve(
        stores,
        address,
        announce,
        ready=lambda url: out.result(f"listening on {url}"),
        log=lambda text: out.say(plain(text)),
    )
    return ExitCode.OK


def import_car(file: Path, store: Path, *, as_json: bool) -> int:
    """Verify a CAR whole and put it into the store. Raises DataError, PeerError."""
    with out.progress() as progress, open_car(file, progress) as dag:
        root, layout = dag.layout.root, dag.layout
        label = f"{IMPORT_MARK}{root}"
        delivery = StoreTarget("store", store).publish(dag, label, progress)
        extra = dag.extra_blocks
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "import",
                "cid": str(root),
                "file": str(file),
                "store": str(store),
                "blocks": len(layout),
                "bytes": layout.size,
                "extra_blocks": extra,
                "already_there": delivery.blocks_sent == 0,
            }
        )
    else:
        out.say(f"{count(len(layout), 'block')}, {size(layout.size)}, in {store}")
        out.result(str(root))
    return ExitCode.OK
