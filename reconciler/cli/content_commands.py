"""`reconcile identify` and `reconcile export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconciler.cli import output as out
from reconciler.cli.bytes_of import bytes_of
from reconciler.content import profile
from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.directory_dag import BundleIdentity
from reconciler.content.export import export
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import ExitCode, UsageError
from reconciler.index.layout import Layout
from reconciler.render.words import count, size


def show_identity(
    path: Path,
    *,
    bare: bool,
    hidden: bool,
    model: str | None,
    version: str | None,
    format: str | None,  # noqa: A002
    created_at: str | None,
    as_json: bool,
) -> int:
    """Identify a directory, or with `bare` a single file too, and print what was found."""
    if not path.exists():
        raise UsageError(f"no such directory: {str(path)!r}")
    if not bare and not path.is_dir():
        raise UsageError(f"not a directory: {str(path)!r}", hint="--bare takes a single file as it is")
    if bare:
        bundle = bare_bundle(path, include_hidden=hidden)
    else:
        listing = scan(path, include_hidden=hidden)
        resolved = path.resolve()
        bundle = make_bundle(
            listing,
            model=model or resolved.parent.name,
            version=version or resolved.name,
            format=format,
            created_at=created_at,
        )
    with out.progress() as progress:
        dag = identify(bundle, cache=None, progress=progress)
    identity = dag.identity
    if as_json:
        out.result_json(identity_document(identity, generated=bundle.generated))
        return ExitCode.OK
    out.result(str(identity.root))
    made = f", {' and '.join(bundle.generated)} generated" if bundle.generated else ""
    out.say(
        f"{count(len(identity.files), 'file')}, {size(identity.size)}, {count(identity.blocks, 'block')}, "
        f"CAR of {size(identity.car_size)}{made}"
    )
    if bundle.listing.hidden:
        left = count(len(bundle.listing.hidden), "hidden entry", "hidden entries")
        out.say(f"note: {left} left out (--hidden takes them)")
    return ExitCode.OK


def identity_document(identity: BundleIdentity, *, generated: tuple[str, ...]) -> dict[str, Any]:
    """An identity as schemas/identity.schema.json says; sizes in bytes."""
    return {
        "schema": 1,
        "kind": "identity",
        "root": str(identity.root),
        "size": identity.size,
        "blocks": identity.blocks,
        "block_bytes": identity.block_bytes,
        "car_size": identity.car_size,
        "dirhash": identity.dirhash,
        "profile": profile.NAME,
        "generated": list(generated),
        "files": [
            {"path": file.path, "size": file.size, "sha256": file.sha256, "cid": str(file.cid)}
            for file in identity.files
        ],
    }


def export_version(layout: Layout, ref: str, file: Path, *, no_cache: bool, as_json: bool) -> int:
    """Write the CAR of a version to `file`, which appears whole or not at all."""
    if file.exists():
        raise UsageError(f"{str(file)!r} exists already", hint="give another name, or delete it first")
    with out.progress() as progress, bytes_of(layout, ref, progress, use_cache=not no_cache) as found:
        export(found.dag, file, progress)
        root, car_size = found.dag.layout.root, found.dag.layout.car_size
        source = found.source
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "export",
                "cid": str(root),
                "file": str(file),
                "size": car_size,
                "source": source,
            }
        )
    else:
        out.say(f"{size(car_size)} from {source}")
        out.result(str(root))
    return ExitCode.OK
