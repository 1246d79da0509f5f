"""The commands that serve a store to others, and bring CARs into one."""

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.options import Json

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
