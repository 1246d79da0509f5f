"""The commands beside the index: serving a store, CARs made elsewhere, artifacts without an entry."""

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import options
from reconciler.cli.options import Hidden, Json, takes
from reconciler.index.layout import Layout

serve_app = typer.Typer()

STORE = Path(".reconcile/store")


@serve_app.command()
def serve(
    store: Annotated[
        list[Path] | None,
        typer.Option("--store", metavar="DIR", help="A store to serve; several are asked in this order."),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    announce: Annotated[
        list[str] | None,
        typer.Option(
            "--announce", metavar="URL", help="How others reach this gateway, for /routing/v1/providers."
        ),
    ] = None,
) -> int:
    """Serve stores over HTTP, as an IPFS gateway: verifiable blocks and CARs, and plain files.

    Every block is checked before it leaves. Needs the extra `serve`. Stops on SIGTERM once the answers under
    way are sent.
    """
    from reconciler.cli.serve_command import serve_stores

    return serve_stores(store or [STORE], listen, announce or [])


@serve_app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.car", help="A CARv1 with one root and all its blocks.")
    ],
    store: Annotated[
        Path, typer.Option("--store", metavar="DIR", help="The store to put it into; made when missing.")
    ] = STORE,
    as_json: Json = False,
) -> int:
    """Put a CAR that another program made into a store, every block verified."""
    from reconciler.cli.serve_command import import_car

    return import_car(file, store, as_json=as_json)


@serve_app.command()
@takes(options.layout)
def put(
    layout: Layout,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a directory, taken as it is.")],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", help="Where to keep it; not needed where there is one."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="NAME", help="It is kept as reconciler/put/NAME; default: its name."),
    ] = None,
    hidden: Hidden = False,
    as_json: Json = False,
) -> int:
    """Publish a file or directory without an index entry, and print its CID.

    For what is no release: a dataset, the input or output of an inference, a proof. No run of an index takes
    it away.
    """
    from reconciler.cli.put_command import put_path

    return put_path(layout, path, target=target, label=label, hidden=hidden, as_json=as_json)


@serve_app.command()
@takes(options.layout)
def get(
    layout: Layout,
    cid: Annotated[str, typer.Argument(metavar="CID", help="What `reconcile put` printed.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Where to put it; must not exist.")],
    as_json: Json = False,
) -> int:
    """Bring a CID back from the targets, every block verified."""
    from reconciler.cli.put_command import get_cid

    return get_cid(layout, cid, destination, as_json=as_json)
