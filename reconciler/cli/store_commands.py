"""Commands that work without an index entry: serve, import, put."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import AnyIndex, Directory, Hidden, IndexFile, Json, TargetsFile
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import count, plain, size

if TYPE_CHECKING:
    from reconciler.content.cid import Cid
    from reconciler.index.locations import RepositoryLayout
    from reconciler.trust.anchor import AnchorRecord

store_commands = typer.Typer()

STORE = Path(".reconcile/store")


@store_commands.command()
def serve(
    store: Annotated[
        list[Path] | None,
        typer.Option(
            "--store",
            metavar="DIR",
            help="Store to serve (default: .reconcile/store); may be repeated, in order of preference.",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Address to listen on; port 0 selects a free port."
        ),
    ] = "127.0.0.1:8080",
    announce: Annotated[
        list[str] | None,
        typer.Option(
            "--announce",
            metavar="URL",
            help="Public address of this gateway, for /routing/v1/providers; may be repeated.",
        ),
    ] = None,
    doors: Annotated[
        str,
        typer.Option(
            "--doors",
            metavar="NAMES",
            help="Protocols to answer besides that of a gateway, for the versions of the index: "
            "hf, oci, ollama (default: none).",
        ),
    ] = "",
    index: AnyIndex = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream",
            metavar="URL",
            help="Gateway to fetch blocks from that no store has, for the versions of the index; "
            "may be repeated.",
        ),
    ] = None,
) -> int:
    """Serve stores over HTTP as an IPFS gateway: verifiable blocks and CARs, and plain files.

    With `--doors`, tools that load models use this server as their hub; a line for each door says how. Every
    block is verified before it is sent. SIGTERM stops the server after the responses in progress. Requires
    the Python extra `serve`.
    """
    from reconciler.cli.door_settings import door_settings
    from reconciler.gateway.doors.open import parse_doors
    from reconciler.gateway.server import TlsFiles, parse_listen
    from reconciler.gateway.server import serve as serve_stores
    from reconciler.index.user_config import config_file, load_config

    address = parse_listen(listen)
    config = load_config(config_file(os.environ)).serve
    names = parse_doors(doors)
    if (index is not None or upstream) and not names:
        given = "--upstream" if upstream else "--index"
        raise UsageError(f"{given} is for --doors only", hint=f"add --doors hf, or leave out {given}")
    stores = store or ([STORE] if STORE.is_dir() or not upstream else [])
    for each in stores:
        if not each.is_dir():
            raise UsageError(
                f"no store at {str(each)!r}", hint="`reconcile` or `reconcile import` creates one"
            )
    serve_stores(
        stores,
        address,
        announce or [],
        ready=lambda line: out.result(plain(line)),
        log=lambda text: out.say(plain(text)),
        doors=door_settings(names, index, config, upstream or ()) if names else None,
        tls=TlsFiles(config.certificate, config.private_key) if config.certificate else None,
    )
    return ExitCode.OK


@store_commands.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.car", help="CARv1 with one root and all blocks of its DAG.")
    ],
    store: Annotated[
        Path, typer.Option("--store", metavar="DIR", help="Store to import into; created if missing.")
    ] = STORE,
    as_json: Json = False,
) -> int:
    """Import a CAR made by another program into a store and verify every block."""
    return import_car(file, store, as_json=as_json)


def import_car(file: Path, store: Path, *, as_json: bool) -> int:
    """Verify the CAR `file` completely and add it to `store`. Raises DataError, PeerError."""
    from reconciler.content.car_dag import open_car
    from reconciler.index.label import IMPORT_MARK, Label
    from reconciler.targets.store import StoreTarget

    with out.progress() as progress, open_car(file, progress) as dag:
        layout = dag.layout
        delivery = StoreTarget("store", store).publish(dag, Label(f"{IMPORT_MARK}{layout.root}"), progress)
        extra = dag.extra_blocks
    if as_json:
        out.result_json(
            documents.import_document(
                layout, file, store, extra_blocks=extra, already_there=delivery.blocks_sent == 0
            )
        )
    else:
        out.say(f"{count(len(layout), 'block')}, {size(layout.size)}, in {store}")
        out.result(str(layout.root))
    return ExitCode.OK


@store_commands.command()
def put(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="File or directory to publish exactly as it is.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="NAME", help="Target to publish to; may be omitted when there is only one."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="NAME", help="Pin it as reconciler/put/NAME (default: the name of PATH)."
        ),
    ] = None,
    anchor: Annotated[
        bool,
        typer.Option("--anchor", help="Also anchor the CID on the chain that targets.yaml names."),
    ] = False,
    hidden: Hidden = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """Publish a file or directory without an index entry, and print its CID.

    Use it for artifacts that are not releases: a dataset, the input or output of an inference, a proof. A
    run never removes them.
    """
    from reconciler.loop.put import put as put_path
    from reconciler.render.findings import warning_lines
    from reconciler.targets.interface import State

    layout = find_layout(directory, index, targets)
    if not path.exists():
        raise UsageError(f"no such file or directory: {str(path)!r}")
    layout.make_state()
    with out.progress() as progress:
        done = put_path(layout, path, target, label, hidden=hidden, environ=os.environ, progress=progress)
    record = _anchor(done.root, layout) if anchor else None
    if as_json:
        out.result_json(documents.put_document(done, None if record is None else record.transaction))
        return ExitCode.OK
    for warning in warning_lines((str(path), found) for found in done.findings):
        out.warn(warning)
    how = "accepted by" if done.state is State.PENDING else "stored on"
    label_text = f" as {done.label}" if done.label else ""
    out.say(f"{count(done.files, 'file')}, {size(done.size)}, {how} {done.target}{label_text}")
    if done.detail:
        out.say(f"note: {plain(done.detail)}")
    if record is not None:
        out.say(f"anchored on the chain {record.chain} by {record.transaction}, in block {record.block}")
    out.result(str(done.root))
    return ExitCode.OK


def _anchor(root: Cid, layout: RepositoryLayout) -> AnchorRecord:
    from reconciler.index.log_settings import read_audit_settings
    from reconciler.index.targets_file import read_targets
    from reconciler.loop.anchoring import anchor_artifact
    from reconciler.loop.log_leaves import log_directory
    from reconciler.loop.workspace import run_lock

    settings = read_audit_settings(read_targets(layout.targets_file)[1], str(layout.targets_file))
    with run_lock(layout.state, "reconcile put --anchor"):
        return anchor_artifact(root, log_directory(layout.index_file), settings.anchor, os.environ)
